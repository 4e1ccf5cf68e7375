package access

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// Denial is the latest refusal of a user.
type Denial struct {
	Time   time.Time `json:"time"`
	Action string    `json:"action"` // kmsfs:Read and the like where it was decided; the name of the request ("read", "lookup") where keys failed it
	Cause  Cause     `json:"cause"`
	Reason string    `json:"reason"`
	Path   string    `json:"path,omitempty"` // where it was looked for, and is the only one
	Zone   uint64    `json:"zone"`
}

// maxDenials bounds the users that are remembered.
const maxDenials = 4096

// denials remembers the last one of each user.
type denials struct {
	mu   sync.Mutex
	last map[uint32]Denial // guarded by mu
}

// note remembers what was decided.
func (n *denials) note(who Subject, action Action, d *Decision, at time.Time) {
	out := Denial{Time: at.UTC(), Action: "kmsfs:" + action.String(), Cause: d.Denied.Cause, Reason: d.Denied.Reason, Path: d.Path, Zone: uint64(d.Zone)}
	if d.several {
		out.Path = "" // another name may lie where the user may not look
	}
	n.put(who.UID, out)
}

func (n *denials) put(uid uint32, d Denial) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[uint32]Denial{}
	}
	if _, known := n.last[uid]; !known && len(n.last) >= maxDenials {
		for other := range n.last {
			delete(n.last, other) // any one: who has many uids drives out few
			break
		}
	}
	n.last[uid] = d
}

// Refused notes for who asked that a request about an inode failed because keys may not be had or used, where that was not decided here, and so not noted. It says nothing of the key manager's
// answer, which may be about others. Write-back is nobody's request.
func (g *Guard) Refused(by Requester, operation string, ino meta.Ino, err error) {
	var decided *Denied
	if by.PID == 0 || errors.As(err, &decided) {
		return
	}
	why := refusal(err)
	d := Denial{Time: g.cfg.Now().UTC(), Action: operation}
	if a, err := g.cfg.Meta.Getattr(context.Background(), ino); err == nil {
		d.Zone = uint64(a.Zone)
		if z := g.table.Load().zones[a.Zone]; z != nil {
			why = cmp.Or(z.closed(), why)
		}
	}
	d.Cause, d.Reason = why.Cause, why.Reason
	g.denials.put(by.UID, d)
}

// refusal is what an error of keys means.
func refusal(err error) *Denied {
	switch {
	case errors.Is(err, keymgr.ErrAccessDenied), errors.Is(err, keymgr.ErrNotAuthorized):
		return denied(CauseKeyPolicy, "the policy and the grants of the directory's key do not allow it")
	case errors.Is(err, meta.ErrKeyRevoked), errors.Is(err, keymgr.ErrDisabled), errors.Is(err, keymgr.ErrInvalidState):
		return denied(CauseKeyState, disabledReason)
	}
	return denied(CauseKeyAway, "the key manager, or the token behind it, does not answer")
}

// LastDenial is the latest refusal of a user on this mount.
func (g *Guard) LastDenial(uid uint32) (Denial, bool) {
	g.denials.mu.Lock()
	defer g.denials.mu.Unlock()
	d, ok := g.denials.last[uid]
	return d, ok
}
