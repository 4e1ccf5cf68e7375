package server

import (
	"net/http"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// forwardedUser returns who asks: by, whose signature was verified, or the user of another host for whom it says to ask. Whether it may say so is for the key manager to decide, key by key. The
// header is one of those that must be signed, so it can be neither added, changed nor left out on the way.
func forwardedUser(r *http.Request, op operation, by keymgr.Caller) (keymgr.Caller, error) {
	values := r.Header.Values(hsm.UserHeader)
	switch {
	case len(values) == 0:
		return by, nil
	case len(values) > 1:
		return by, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "a request is forwarded for one user"}
	case !op.forwardable:
		return by, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "this operation is not for another key manager to forward"}
	}
	u, err := hsm.ParseUser(values[0])
	if err != nil {
		return by, &keymgr.Fault{Class: keymgr.ErrValidation, Message: hsm.UserHeader + " is malformed", Cause: err}
	}
	who := policy.Principal{ARN: principal(int(u.UID)), Account: keymgr.AccountID,
		Unix: &policy.Unix{UID: u.UID, User: u.Name, Groups: u.Groups, UnresolvedUser: u.Name == "", UnresolvedGroups: u.UnknownGroups}}
	if u.Name != "" {
		who.ARN = policy.UserARN(keymgr.AccountID, u.Name)
	}
	by.UID, by.Front, by.Who, by.Principal, by.Via = int(u.UID), by.Who, who, who.ARN, keymgr.ViaKeyManager
	return by, nil
}
