package access

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// TestDenialsAreBounded: who is denied under many uids drives out no more than that, and somebody who is known drives out nobody.
func TestDenialsAreBounded(t *testing.T) {
	var n denials
	for uid := range uint32(maxDenials) {
		n.put(uid, Denial{Zone: uint64(uid)})
	}
	for range 3 {
		n.put(7, Denial{Zone: 1})
	}
	if len(n.last) != maxDenials || n.last[7].Zone != 1 || n.last[8].Zone != 8 {
		t.Errorf("%d are remembered, %+v, %+v", len(n.last), n.last[7], n.last[8])
	}
	n.put(maxDenials+1, Denial{Zone: 2})
	if len(n.last) != maxDenials || n.last[maxDenials+1].Zone != 2 {
		t.Errorf("%d are remembered", len(n.last))
	}
}

// TestDenialOfOneName: of a file with several names the user is not told one that may not be what was asked for.
func TestDenialOfOneName(t *testing.T) {
	var n denials
	d := Decision{Path: "/secret/f", Denied: denied(CauseImplicitDeny, "why")}
	who := Subject{Requester: Requester{UID: 5}}
	n.note(who, Read, &d, time.Now())
	if n.last[5].Path != "/secret/f" {
		t.Errorf("the only name: %+v", n.last[5])
	}
	d.several = true
	n.note(who, Read, &d, time.Now())
	if n.last[5].Path != "" || n.last[5].Cause != CauseImplicitDeny {
		t.Errorf("one of several: %+v", n.last[5])
	}
}

// TestRefusal: each class of errors of keys has its cause.
func TestRefusal(t *testing.T) {
	for class, want := range map[error]Cause{keymgr.ErrAccessDenied: CauseKeyPolicy, keymgr.ErrNotAuthorized: CauseKeyPolicy, meta.ErrKeyRevoked: CauseKeyState,
		keymgr.ErrDisabled: CauseKeyState, keymgr.ErrInvalidState: CauseKeyState, meta.ErrKeyUnavailable: CauseKeyAway, keymgr.ErrKeyUnavailable: CauseKeyAway} {
		if got := refusal(fmt.Errorf("keys: %w", class)); got.Cause != want || got.Reason == "" {
			t.Errorf("%v is %+v, want %s", class, got, want)
		}
	}
	both := errors.Join(meta.ErrKeyRevoked, keymgr.ErrAccessDenied) // as the keyring says it of a right that is missing
	if got := refusal(both); got.Cause != CauseKeyPolicy {
		t.Errorf("a right that is missing is %+v", got)
	}
}
