package meta

import (
	"context"
	"sync"
)

// grace lets who changes what transactions use wait until all that may use the old are over. Those that begin meanwhile are not waited for. The zero
// grace is ready.
type grace struct {
	waiting sync.Mutex // held by the one quiesce at a time

	mu    sync.Mutex
	turn  int           // guarded by mu; 0 or 1
	under [2]int        // guarded by mu; transactions under way, by the turn in which they began
	idle  chan struct{} // guarded by mu; closed when none of the other turn is left; nil: nobody waits
}

// enter notes that a transaction begins; leave of the result that it is over.
func (g *grace) enter() (turn int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under[g.turn]++
	return g.turn
}

func (g *grace) leave(turn int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under[turn]--
	g.settle()
}

// settle tells who waits that nothing is left to wait for. Called with mu held.
func (g *grace) settle() {
	if g.idle != nil && g.under[1-g.turn] == 0 {
		close(g.idle)
		g.idle = nil
	}
}

// quiesce returns when all that were under way when it was called are over.
func (g *grace) quiesce(ctx context.Context) error {
	g.waiting.Lock()
	defer g.waiting.Unlock()
	for range 2 { // the other turn may have been left unfinished by one that gave up
		idle := g.flip()
		select {
		case <-idle:
		case <-ctx.Done():
			g.giveUp()
			return ctx.Err()
		}
	}
	return nil
}

func (g *grace) flip() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn = 1 - g.turn
	idle := make(chan struct{})
	g.idle = idle
	g.settle()
	return idle
}

func (g *grace) giveUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = nil
}

// Quiesce returns when every Update and UpdateWithKeys that was under way when it was called is over.
func (s *Store) Quiesce(ctx context.Context) error { return s.grace.quiesce(ctx) }
