// Package fair shares a bounded number of calls at once among those who make them, so that one whose calls hang does not hang the others'.
//
// It does not know what a call is, nor who makes it: a key of any kind names him.
package fair

import (
	"context"
	"sync"
)

// Turns hands out turns: so many at once in all, so many for one user, and among users who wait, one after the other. So users whose
// calls hang, with a token that does not answer, leave turns for all others. A call that several users wait for goes as soon as any of them has a turn.
type Turns[K comparable] struct {
	total, each int

	mu    sync.Mutex
	busy  int            // guarded by mu
	users map[K]*line[K] // guarded by mu; of those who have or want turns
	order []K            // guarded by mu; who waits, the next one first
}

type line[K comparable] struct {
	calls   int
	waiting []*Turn[K]
}

// Turn is one call's place. Make one with NewTurn.
type Turn[K comparable] struct {
	given chan struct{} // closed when it may go
	by    K             // whose turn it took; valid when given is closed
	over  bool          // given or given up; guarded by Turns.mu
}

// New returns turns for total calls at once, each of them for one user at most.
func New[K comparable](total, each int) *Turns[K] {
	return &Turns[K]{total: total, each: each, users: map[K]*line[K]{}}
}

// NewTurn returns a place in no line.
func NewTurn[K comparable]() *Turn[K] { return &Turn[K]{given: make(chan struct{})} }

// Do runs call when it is the user's turn. Error: ctx's if it ends before; otherwise the call's.
func (f *Turns[K]) Do(ctx context.Context, u K, call func() error) error {
	t := NewTurn[K]()
	f.Want(t, u)
	if err := f.Wait(ctx, t); err != nil {
		return err
	}
	defer f.Done(t)
	return call()
}

// Want puts a call in a user's line. It may stand in several lines.
func (f *Turns[K]) Want(t *Turn[K], u K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.over {
		return
	}
	l := f.users[u]
	if l == nil {
		l = &line[K]{}
		f.users[u] = l
	}
	for _, w := range l.waiting {
		if w == t {
			return
		}
	}
	if len(l.waiting) == 0 {
		f.order = append(f.order, u)
	}
	l.waiting = append(l.waiting, t)
	f.next()
}

// Wait returns when it is the call's turn, or ctx is done.
func (f *Turns[K]) Wait(ctx context.Context, t *Turn[K]) error {
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

// Done gives a turn back.
func (f *Turns[K]) Done(t *Turn[K]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.users[t.by].calls--
	f.forget(t.by)
	f.next()
}

// next gives out turns while there are any. The caller holds mu.
func (f *Turns[K]) next() {
	for passed := 0; f.busy < f.total && passed < len(f.order); {
		u := f.order[0]
		f.order = f.order[1:]
		l := f.users[u]
		for len(l.waiting) > 0 && l.waiting[0].over { // given up, or gone with another's turn
			l.waiting = l.waiting[1:]
		}
		switch {
		case len(l.waiting) == 0:
			f.forget(u)
			continue
		case l.calls == f.each:
			passed++
		default:
			f.give(u, l)
			passed = 0
		}
		if len(l.waiting) > 0 {
			f.order = append(f.order, u)
		}
	}
}

func (f *Turns[K]) give(u K, l *line[K]) {
	t := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.calls++
	f.busy++
	t.by, t.over = u, true
	close(t.given)
}

// forget drops a user who neither has nor wants a turn. The caller holds mu.
func (f *Turns[K]) forget(u K) {
	if l := f.users[u]; l.calls == 0 && len(l.waiting) == 0 {
		delete(f.users, u)
	}
}
