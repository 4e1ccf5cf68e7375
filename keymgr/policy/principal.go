package policy

import "strings"

// principalForm is what a statement's principal names.
type principalForm uint8

const (
	everybody     principalForm = iota // "*"
	wholeAccount                       // an account, as its number or the ARN of its root
	exactly                            // a user, a session, exactly
	roleOrSession                      // a role, and its sessions
	unixUser                           // a user of the host
	unixGroup                          // a group of the host
	awsService                         // a service
)

// principal is one principal of a statement.
type principal struct {
	text    string // as written
	form    principalForm
	account string
	name    string // of the role (without path), user, group
}

// parsePrincipal reads what stands under "AWS"; it says why it is refused.
func parsePrincipal(text string) (principal, string) {
	p := principal{text: text}
	switch {
	case text == "*":
		return p, ""
	case len(text) > MaxPattern:
		return p, "is too long"
	case strings.ContainsAny(text, "*?"):
		return p, `has a wildcard, which only "*" alone may be`
	case allDigits(text, 12, 12):
		p.form, p.account = wholeAccount, text
		return p, ""
	}
	fields, ok := splitARN(text)
	if !ok || fields[0] != "arn" || fields[1] != "aws" || fields[3] != "" || !allDigits(fields[4], 12, 12) {
		return p, "is neither an account of 12 digits nor an ARN of a principal"
	}
	p.account = fields[4]
	kind, rest, _ := strings.Cut(fields[5], "/")
	switch fields[2] + ":" + kind {
	case "iam:root":
		p.form = wholeAccount
		ok = fields[5] == "root"
	case "iam:user", "sts:federated-user":
		p.form = exactly
		ok = validPath(rest)
	case "iam:role":
		p.form = roleOrSession
		ok = validPath(rest)
		p.name = rest[strings.LastIndexByte(rest, '/')+1:]
	case "sts:assumed-role":
		p.form = exactly
		ok = validPath(rest) && strings.Count(rest, "/") == 1
	case "iam:unix":
		return p.unix(rest)
	case "iam:group":
		return p, "is a group of identities, which can't be a principal"
	default:
		return p, "is not an ARN of a principal: root, user/, role/, unix/user/ or unix/group/"
	}
	if !ok {
		return p, "is not an ARN of a principal: its name is malformed"
	}
	return p, ""
}

// unix reads user/NAME or group/NAME.
func (p principal) unix(rest string) (principal, string) {
	kind, name, _ := strings.Cut(rest, "/")
	p.name = name
	switch kind {
	case "user":
		p.form = unixUser
	case "group":
		p.form = unixGroup
	default:
		return p, "is neither unix/user/NAME nor unix/group/NAME"
	}
	if name == "" || strings.ContainsAny(name, "/:") || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return p, "is not the name of a user or group of the host"
	}
	return p, ""
}

// parseService reads what stands under "Service".
func parseService(text string) (principal, string) {
	labels := strings.Split(text, ".")
	ok := len(labels) > 1 && len(text) <= 253
	for _, label := range labels {
		ok = ok && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	}
	if !ok {
		return principal{}, `is not the name of a service, as "kmsfs.local.amazonaws.com"`
	}
	return principal{text: text, form: awsService, name: text}, ""
}

// validPath reports whether s is a name, with a path before it or not, of characters that IAM allows.
func validPath(s string) bool {
	for _, part := range strings.Split(s, "/") {
		if part == "" {
			return false
		}
		for _, c := range []byte(part) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_+=,.@-", c) >= 0:
			default:
				return false
			}
		}
	}
	return true
}

// names decides whether the principal is the caller itself, or a role or group of it: an Allow for it is enough. An account names its root only.
func (p *principal) names(who *Principal) truth {
	same := p.account == who.Account
	switch p.form {
	case everybody:
		return yes
	case wholeAccount:
		return truthOf(same && who.isRoot())
	case exactly:
		return truthOf(same && p.text == who.ARN)
	case roleOrSession:
		session, ok := who.sessionRole()
		return truthOf(same && (p.text == who.ARN || ok && session == p.name))
	case unixUser:
		if !same {
			return no
		}
		if p.text == who.ARN || who.Unix != nil && who.Unix.User == p.name {
			return yes
		}
		if who.Unix != nil && who.Unix.UnresolvedUser {
			return maybe
		}
		return no
	case unixGroup:
		if !same || who.Unix == nil {
			return no
		}
		for _, g := range who.Unix.Groups {
			if g == p.name {
				return yes
			}
		}
		if who.Unix.UnresolvedGroups {
			return maybe
		}
		return no
	}
	return truthOf(who.Service != "" && who.Service == p.name)
}

// covers is names, but an account covers all of its principals.
func (p *principal) covers(who *Principal) truth {
	if p.form == wholeAccount {
		return truthOf(who.Account != "" && p.account == who.Account)
	}
	return p.names(who)
}

// PrincipalCovers reports whether the principal arn, as a policy or a grant names it, is the caller, a role whose session the caller is, a group of the
// host it is in, or its account. What could not be found out is no. Not "*". Errors: ErrInvalidPrincipal.
func PrincipalCovers(arn string, who Principal) (bool, error) {
	p, why := parsePrincipal(arn)
	if why == "" && p.form == everybody {
		why = "is everybody"
	}
	if why != "" {
		return false, &Error{Class: ErrInvalidPrincipal, Reason: quote(arn) + " " + why}
	}
	return p.covers(&who) == yes, nil
}
