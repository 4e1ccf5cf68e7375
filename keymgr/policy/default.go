package policy

import (
	"fmt"
	"strings"
)

// putKeyPolicy is the action that must not be lost.
const putKeyPolicy = "kms:PutKeyPolicy"

// DefaultPolicy is the policy that a key gets when none is given: the account may do everything, and leave it to its identity policies who else may.
// Each owner, an ARN, may do everything too. The text is laid out as AWS does it. It panics if an ARN or the account is not one.
func DefaultPolicy(account string, owners ...string) []byte {
	var b strings.Builder
	b.WriteString("{\n  \"Version\" : \"2012-10-17\",\n  \"Id\" : \"key-default-1\",\n  \"Statement\" : [ ")
	allowAll(&b, "Enable IAM User Permissions", RootARN(account))
	if len(owners) > 0 {
		b.WriteString(", ")
		allowAll(&b, "Allow owner", owners...)
	}
	b.WriteString(" ]\n}")
	if _, err := Parse([]byte(b.String())); err != nil {
		panic(fmt.Sprintf("policy: default policy of %q for %q: %v", account, owners, err))
	}
	return []byte(b.String())
}

// allowAll writes a statement that allows everything.
func allowAll(b *strings.Builder, sid string, arns ...string) {
	who := make([]string, len(arns))
	for i, arn := range arns {
		who[i] = string(appendText(nil, arn))
	}
	list := who[0]
	if len(who) > 1 {
		list = "[ " + strings.Join(who, ", ") + " ]"
	}
	fmt.Fprintf(b, "{\n    \"Sid\" : \"%s\",\n    \"Effect\" : \"Allow\",\n    \"Principal\" : {\n      \"AWS\" : %s\n    },\n"+
		"    \"Action\" : \"kms:*\",\n    \"Resource\" : \"*\"\n  }", sid, list)
}

// LockoutCheck makes sure that whoever puts the policy on a key could put another one. identity are the policies attached to the caller; r is its request,
// whose action does not matter. Errors: ErrLockout.
func LockoutCheck(d *Document, identity []*Document, r Request) error {
	r.Action = putKeyPolicy
	key := d.Evaluate(r)
	var by []Decision
	for _, i := range identity {
		by = append(by, i.Evaluate(r))
	}
	if result := Combine(&key, by, nil); result.Effect != Allow {
		return fmt.Errorf("%w: %s", ErrLockout, Denial(r, result))
	}
	return nil
}
