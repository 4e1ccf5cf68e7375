package access

import (
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// ErrAction: there is no such action.
var ErrAction = errors.New("no action of directories: List, Read, Write, Create, Delete, Rename, SetAttr, Admin")

// Why a grant token is not kept for a caller.
var (
	ErrNoSession    = errors.New("the session of the calling process is not seen from where the file daemon runs (another PID namespace): begin one, by setsid(1), for this command and the programs that use the token")
	ErrTokenHolders = fmt.Errorf("%d users and sessions use grant tokens already: wait until the time of one is over", maxHolders)
)

// Cause is why a request was refused, for programs.
type Cause string

// The causes.
const (
	CauseNone          Cause = ""
	CauseExplicitDeny  Cause = "policy-deny"       // a statement of the zone's policy denies it
	CauseImplicitDeny  Cause = "policy-no-allow"   // no statement of the zone's policy allows it
	CauseUnknownCaller Cause = "unknown-caller"    // a statement denies it because who asks could not all be found out
	CauseKeyPolicy     Cause = "key-denied"        // the policy and the grants of the zone's key
	CauseKeyState      Cause = "key-disabled"      // the zone's key is disabled, or about to be deleted
	CauseLocked        Cause = "zone-locked"       // an administrator has locked the directory
	CauseKeyAway       Cause = "key-unavailable"   // the key manager does not answer
	CauseAudit         Cause = "audit-unavailable" // the decision could not be recorded
)

// Denied is a refusal. It is keymgr.ErrAccessDenied, meta.ErrKeyRevoked or meta.ErrKeyUnavailable under errors.Is.
type Denied struct {
	Cause  Cause
	Reason string // for people
	class  error
}

func (d *Denied) Error() string { return fmt.Sprintf("%s: %s", d.Cause, d.Reason) }

func (d *Denied) Unwrap() error { return d.class }

func denied(cause Cause, reason string) *Denied {
	class := keymgr.ErrAccessDenied
	switch cause {
	case CauseKeyState, CauseLocked:
		class = meta.ErrKeyRevoked
	case CauseKeyAway:
		class = meta.ErrKeyUnavailable
	}
	return &Denied{cause, reason, class}
}
