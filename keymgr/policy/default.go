package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// putKeyPolicy is the action that must not be lost.
const putKeyPolicy = "kms:PutKeyPolicy"

// DefaultPolicy is the policy that a key gets when none is given: the account may do everything, and leave it to its identity policies who else may.
// Each owner, an ARN, may do everything too. The text is laid out as AWS does it. It panics if an ARN or the account is not one.
func DefaultPolicy(account string, owners ...string) []byte {
	type principal struct {
		AWS any
	}
	type statement struct {
		Sid, Effect      string
		Principal        principal
		Action, Resource string
	}
	type document struct {
		Version   string
		Id        string
		Statement []statement
	}
	d := document{Version: "2012-10-17", Id: "key-default-1", Statement: []statement{
		{"Enable IAM User Permissions", "Allow", principal{RootARN(account)}, "kms:*", "*"},
	}}
	switch len(owners) {
	case 0:
	case 1:
		d.Statement = append(d.Statement, statement{"Allow owner", "Allow", principal{owners[0]}, "kms:*", "*"})
	default:
		d.Statement = append(d.Statement, statement{"Allow owner", "Allow", principal{owners}, "kms:*", "*"})
	}
	return lay(d)
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
