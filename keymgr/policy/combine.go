package policy

import "fmt"

// Source is what made a decision.
type Source uint8

// The sources of decisions.
const (
	FromKeyPolicy Source = iota
	FromIdentityPolicy
	FromDirectoryPolicy
	FromGrant
)

// String gives the source as AWS' messages call it.
func (s Source) String() string {
	switch s {
	case FromIdentityPolicy:
		return "identity-based policy"
	case FromDirectoryPolicy:
		return "directory policy"
	case FromGrant:
		return "grant"
	}
	return "resource-based policy"
}

// ByGrant is the decision of a grant that covers the request.
func ByGrant() Decision { return Decision{Effect: Allow, Source: FromGrant, Statement: -1} }

// Combine decides a request within one account. key is the decision of the policy of the key (or directory) that the request is about; nil for an operation
// without such a resource, which identity policies decide alone. identity are the decisions of the policies attached to the caller, grants those of its
// usable grants (ByGrant).
//
// An explicit Deny of any of them decides. Otherwise one Allow is enough, but that of an identity policy counts only where the key policy delegates to
// the account. The result carries the statement that decided; where nothing allows, it is an ImplicitDeny that names whose permission was missing.
func Combine(key *Decision, identity, grants []Decision) Decision {
	var all []Decision
	if key != nil {
		all = append(all, *key)
	}
	all = append(append(all, identity...), grants...)
	for _, d := range all {
		if d.Effect == ExplicitDeny {
			return d
		}
	}
	delegated := key == nil || key.Delegated
	for _, d := range all {
		if d.Effect == Allow && (d.Source != FromIdentityPolicy || delegated) {
			return d
		}
	}
	missing := Decision{Statement: -1, Source: FromIdentityPolicy}
	if !delegated {
		missing.Source = key.Source
	}
	return missing
}

// Denial is what the caller is told about a request that was not allowed: AWS' text of an AccessDeniedException. It names no statement.
func Denial(r Request, d Decision) string {
	s := fmt.Sprintf("User: %s is not authorized to perform: %s", r.Principal.ARN, r.Action)
	if r.Resource != "" {
		s += " on resource: " + r.Resource
	}
	if d.Effect == ExplicitDeny {
		article := "a"
		if d.Source == FromIdentityPolicy {
			article = "an"
		}
		return s + fmt.Sprintf(" with an explicit deny in %s %s", article, d.Source)
	}
	return s + fmt.Sprintf(" because no %s allows the %s action", d.Source, r.Action)
}
