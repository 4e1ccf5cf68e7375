package access

import (
	"sync"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// maxSettled bounds the decisions that are remembered of a policy.
const maxSettled = 1024

// settled remembers which requests a policy allows whatever else they are about. It belongs to one policy, which does not change. Safe for concurrent use.
type settled struct {
	mu    sync.RWMutex
	known map[asking]settlement // guarded by mu
}

// asking is who asks for what. Principals are compared with what they point to by address: package identity gives the same one while it knows the same about a user.
type asking struct {
	who    policy.Principal
	action Action
}

// settlement is a decision, if it is one.
type settlement struct {
	decision policy.Decision
	ok       bool
}

// allows returns the decision of a document about a request, if it allows it and no path, program or time could change that.
func (s *settled) allows(d *policy.Document, who *policy.Principal, action Action) (policy.Decision, bool) {
	q := asking{*who, action}
	s.mu.RLock()
	a, ok := s.known[q]
	s.mu.RUnlock()
	if !ok {
		a.decision, a.ok = d.Settled(*who, action.qualified())
		a.ok = a.ok && a.decision.Effect == policy.Allow
		s.put(q, a)
	}
	return a.decision, a.ok
}

func (s *settled) put(q asking, a settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxSettled {
		s.known = make(map[asking]settlement)
	}
	s.known[q] = a
}
