package access

import (
	"sync"
	"time"
)

// Denial is the latest refusal of a user.
type Denial struct {
	Time   time.Time `json:"time"`
	Action string    `json:"action"`
	Cause  Cause     `json:"cause"`
	Reason string    `json:"reason"`
	Path   string    `json:"path,omitempty"`
	Zone   uint64    `json:"zone"`
}

// maxDenials bounds the users that are remembered.
const maxDenials = 4096

// denials remembers the last one of each user.
type denials struct {
	mu   sync.Mutex
	last map[uint32]Denial // guarded by mu
}

func (n *denials) note(who Subject, action Action, d *Decision, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil || len(n.last) >= maxDenials {
		n.last = map[uint32]Denial{}
	}
	n.last[who.UID] = Denial{Time: at.UTC(), Action: "kmsfs:" + action.String(), Cause: d.Denied.Cause, Reason: d.Denied.Reason, Path: d.Path, Zone: uint64(d.Zone)}
}

// LastDenial is the latest refusal of a user on this mount.
func (g *Guard) LastDenial(uid uint32) (Denial, bool) {
	g.denials.mu.Lock()
	defer g.denials.mu.Unlock()
	d, ok := g.denials.last[uid]
	return d, ok
}
