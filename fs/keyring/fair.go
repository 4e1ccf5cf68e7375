package keyring

import (
	"context"
	"sync"
)

// Bounds of calls of the key manager that are under way at once. What is asked for nobody in particular counts as one user more.
const (
	maxCalls    = 16
	maxUserCall = 4 // for one user
)

// fair hands out turns at the key manager: so many at once in all, so many for one user, and among users who wait, one after the other. So users whose
// calls hang, with a token that does not answer, leave turns for all others. A call that several users wait for goes as soon as any of them has a turn.
type fair struct {
	total, each int

	mu    sync.Mutex
	busy  int                // guarded by mu
	users map[user]*userTurn // guarded by mu; of those who have or want turns
	order []user             // guarded by mu; who waits, the next one first
}

// user is a uid, or nobody in particular.
type user struct {
	uid  uint32
	some bool
}

type userTurn struct {
	calls   int
	waiting []*turn
}

// turn is one call's place.
type turn struct {
	given chan struct{} // closed when it may go
	by    user          // whose turn it took; valid when given is closed
	over  bool          // given or given up; guarded by fair.mu
}

func newFair(total, each int) *fair {
	return &fair{total: total, each: each, users: map[user]*userTurn{}}
}

func newTurn() *turn { return &turn{given: make(chan struct{})} }

// want puts a call in a user's line. It may stand in several lines.
func (f *fair) want(t *turn, u user) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.over {
		return
	}
	line := f.users[u]
	if line == nil {
		line = &userTurn{}
		f.users[u] = line
	}
	for _, w := range line.waiting {
		if w == t {
			return
		}
	}
	if len(line.waiting) == 0 {
		f.order = append(f.order, u)
	}
	line.waiting = append(line.waiting, t)
	f.next()
}

// wait returns when it is the call's turn, or ctx is done.
func (f *fair) wait(ctx context.Context, t *turn) error {
	select {
	case <-t.given:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.over { // both at once
		return nil
	}
	t.over = true
	return ctx.Err()
}

// done gives a turn back.
func (f *fair) done(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.users[t.by].calls--
	f.forget(t.by)
	f.next()
}

// next gives out turns while there are any. The caller holds mu.
func (f *fair) next() {
	for passed := 0; f.busy < f.total && passed < len(f.order); {
		u := f.order[0]
		f.order = f.order[1:]
		line := f.users[u]
		for len(line.waiting) > 0 && line.waiting[0].over { // given up, or gone with another's turn
			line.waiting = line.waiting[1:]
		}
		switch {
		case len(line.waiting) == 0:
			f.forget(u)
			continue
		case line.calls == f.each:
			passed++
		default:
			f.give(u, line)
			passed = 0
		}
		if len(line.waiting) > 0 {
			f.order = append(f.order, u)
		}
	}
}

func (f *fair) give(u user, line *userTurn) {
	t := line.waiting[0]
	line.waiting = line.waiting[1:]
	line.calls++
	f.busy++
	t.by, t.over = u, true
	close(t.given)
}

// forget drops a user who neither has nor wants a turn. The caller holds mu.
func (f *fair) forget(u user) {
	if line := f.users[u]; line.calls == 0 && len(line.waiting) == 0 {
		delete(f.users, u)
	}
}
