package soak

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// standstill is how long nothing may have run in this process before that counts as an outage: half of the daemon's shortest time limit. Who stops this process stops the
// daemon, too (SIGSTOP to the group, the freezer, a suspended machine), and after that its limits are over though nobody was slow.
const standstill = time.Second

// outages says when the daemon may have been away.
type outages struct {
	mu           sync.Mutex
	begun, ended int
	looked       time.Time      // when the clock was last looked at
	standstills  int            // found
	stood        int            // begun, with the last of them
	after        func()         // returns when the daemon works again after a standstill
	recovering   sync.WaitGroup // calls of after
}

// watch looks at the clock until the test ends.
func (o *outages) watch(t *testing.T, after func()) {
	o.looked, o.after = time.Now(), after
	end, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(end); <-ended; o.recovering.Wait() })
	go func() {
		defer close(ended)
		tick := time.NewTicker(standstill / 10)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				o.mark()
			case <-end:
				return
			}
		}
	}()
}

// look finds a standstill also before the watch runs again. The caller holds mu.
func (o *outages) look() {
	now := time.Now()
	if now.Sub(o.looked) > standstill {
		o.standstills++
		o.begun++
		o.stood = o.begun
		o.recovering.Go(func() { o.after(); o.end() })
	}
	o.looked = now
}

func (o *outages) begin() { o.mu.Lock(); o.begun++; o.mu.Unlock() }
func (o *outages) end()   { o.mu.Lock(); o.ended++; o.mu.Unlock() }

// mark is the state for a call that begins now.
func (o *outages) mark() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.look()
	return o.ended
}

// between reports whether there was an outage since the mark.
func (o *outages) between(mark int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.look()
	return o.begun > mark
}

// late reports whether limits of the daemon may have passed since the mark because nothing ran.
func (o *outages) late(mark int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.look()
	return o.stood > mark
}

// count is how many standstills there were.
func (o *outages) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.standstills
}

func (o *outages) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%d outages begun, %d ended, %d standstills", o.begun, o.ended, o.standstills)
}

// recovered waits until the token answers time and again: calls that were under way in a standstill are over their limit after it, which ends the token's worker.
func (s *soak) recovered(ctx context.Context) {
	for range 20 {
		s.awaitToken(ctx, 0)
	}
}

// TestStandstill: a time in which the process did not run is an outage for calls that were under way, and for others until the daemon works again.
func TestStandstill(t *testing.T) {
	works := make(chan struct{})
	o := outages{looked: time.Now(), after: func() { <-works }}
	before := o.mark()
	if o.between(before) {
		t.Error("an outage though the process ran")
	}
	o.mu.Lock()
	o.looked = o.looked.Add(-2 * standstill)
	o.mu.Unlock()
	if !o.between(before) || !o.late(before) {
		t.Error("no outage though the process stood still")
	}
	if !o.between(o.mark()) {
		t.Error("the outage ends before the daemon works")
	}
	close(works)
	o.recovering.Wait()
	if o.between(o.mark()) || o.late(o.mark()) {
		t.Error("the outage does not end")
	}
}
