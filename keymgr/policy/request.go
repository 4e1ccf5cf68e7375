package policy

import (
	"strings"
	"time"
)

// Request is what a decision is about. The zero values of Time and Context mean that nothing is known.
type Request struct {
	Principal Principal
	Action    string    // "kms:Decrypt"; case does not matter
	Resource  string    // ARN of the key or alias; "" for what has none, which only Resource "*" matches
	Time      time.Time // now: aws:CurrentTime and aws:EpochTime, in whole seconds
	Context   Context
}

// Principal is who asks. The zero Principal is nobody in particular: only "*" matches it. The condition keys aws:PrincipalArn, aws:PrincipalAccount,
// aws:PrincipalType, aws:username, aws:userid, kms:CallerAccount, kmsfs:Uid and kmsfs:Groups are read from it.
type Principal struct {
	ARN     string // of the identity: a user, role, session, the root, or UserARN of a user of the host
	Account string // 12 digits
	Root    bool   // it is the root of its account, whatever its ARN: the owner of the key store
	UserID  string // AWS' unique id, for aws:userid; "" if it has none
	Service string // the service that asks on its own account, as "kmsfs.local.amazonaws.com"; "" for everybody else
	Unix    *Unix  // the user of the host behind it; nil if there is none, or it is not known
}

// Unix is a user of the host.
type Unix struct {
	UID    uint32
	User   string   // its name; "" if it has none here
	Groups []string // names of all its groups, in any order; a group without a name here may stand as its number

	// The name of the user, or of one of its groups, could not be found out: it may be any. Then a Deny for a user or for a group applies.
	UnresolvedUser, UnresolvedGroups bool
}

// RootARN names the account as a whole, and its root identity.
func RootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

// UserARN names a user of the host.
func UserARN(account, name string) string { return "arn:aws:iam::" + account + ":unix/user/" + name }

// GroupARN names a group of the host.
func GroupARN(account, name string) string { return "arn:aws:iam::" + account + ":unix/group/" + name }

// isRoot reports whether p is the root identity of its account.
func (p *Principal) isRoot() bool {
	return p.Account != "" && (p.Root || p.ARN == RootARN(p.Account))
}

// resource returns the sixth field of p's ARN: "user/alice", "assumed-role/r/s"; "" if it has none.
func (p *Principal) resource() string {
	fields := strings.SplitN(p.ARN, ":", 6)
	if len(fields) != 6 {
		return ""
	}
	return fields[5]
}

// principalARN is aws:PrincipalArn: of a session, the ARN of its role.
func (p *Principal) principalARN() string {
	if role, ok := p.sessionRole(); ok {
		return "arn:aws:iam::" + p.Account + ":role/" + role
	}
	return p.ARN
}

// sessionRole returns the name of the role whose session p is.
func (p *Principal) sessionRole() (string, bool) {
	rest, ok := strings.CutPrefix(p.ARN, "arn:aws:sts::"+p.Account+":assumed-role/")
	if !ok {
		return "", false
	}
	role, _, ok := strings.Cut(rest, "/")
	return role, ok
}

// username is aws:username: the name of a user, without its path; "" for everybody else.
func (p *Principal) username() string {
	res := p.resource()
	if rest, ok := strings.CutPrefix(res, "user/"); ok {
		return rest[strings.LastIndexByte(rest, '/')+1:]
	}
	if name, ok := strings.CutPrefix(res, "unix/user/"); ok {
		return name
	}
	return ""
}

// principalType is aws:PrincipalType.
func (p *Principal) principalType() string {
	res := p.resource()
	switch {
	case p.isRoot():
		return "Account"
	case strings.HasPrefix(res, "user/"), strings.HasPrefix(res, "unix/user/"):
		return "User"
	case strings.HasPrefix(res, "role/"), strings.HasPrefix(res, "assumed-role/"):
		return "AssumedRole"
	case strings.HasPrefix(res, "federated-user/"):
		return "FederatedUser"
	case p.ARN == "" && p.Service == "":
		return "Anonymous"
	}
	return ""
}

// userID is aws:userid.
func (p *Principal) userID() string {
	if p.UserID == "" && p.isRoot() {
		return p.Account
	}
	return p.UserID
}
