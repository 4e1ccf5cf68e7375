package fair

import (
	"context"
	"math/rand/v2"
	"testing"
)

// TestFair gives random turns to random users and checks the bounds, that nobody is passed over, and that nothing is left.
func TestFair(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := New[uint32](5, 2)
	var running, waiting []*Turn[uint32]
	for range 5000 {
		switch r.IntN(4) {
		case 0, 1:
			turn := NewTurn[uint32]()
			for range 1 + r.IntN(2) {
				f.Want(turn, uint32(r.IntN(6)))
			}
			waiting = append(waiting, turn)
		case 2:
			if n := len(running); n > 0 {
				i := r.IntN(n)
				f.Done(running[i])
				running = append(running[:i], running[i+1:]...)
			}
		case 3:
			if n := len(waiting); n > 0 {
				i := r.IntN(n)
				gone, cancel := context.WithCancel(context.Background())
				cancel()
				if f.Wait(gone, waiting[i]) == nil {
					running = append(running, waiting[i])
				}
				waiting = append(waiting[:i], waiting[i+1:]...)
			}
		}
		kept := waiting[:0]
		for _, turn := range waiting {
			select {
			case <-turn.given:
				running = append(running, turn)
			default:
				kept = append(kept, turn)
			}
		}
		waiting = kept
		per := map[uint32]int{}
		for _, turn := range running {
			per[turn.by]++
		}
		for u, n := range per {
			if n > 2 {
				t.Fatalf("user %v has %d", u, n)
			}
		}
		if len(running) > 5 || len(running) != f.busy {
			t.Fatalf("%d run, %d are counted", len(running), f.busy)
		}
		if len(running) == 0 && len(waiting) > 0 {
			t.Fatal("nobody has a turn")
		}
	}
	for len(running) > 0 {
		f.Done(running[0])
		running = running[1:]
		for i := 0; i < len(waiting); i++ {
			select {
			case <-waiting[i].given:
				running = append(running, waiting[i])
				waiting = append(waiting[:i], waiting[i+1:]...)
				i--
			default:
			}
		}
	}
	if len(waiting) > 0 || len(f.users) > 0 || f.busy > 0 {
		t.Errorf("%d wait, %d users, %d busy", len(waiting), len(f.users), f.busy)
	}
}

// TestDo: one user's calls that hang leave turns for another, and a call whose time is over before its turn is not made.
func TestDo(t *testing.T) {
	f := New[string](4, 3)
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	ended := make(chan error, 10)
	for range 10 {
		go func() {
			ended <- f.Do(context.Background(), "greedy", func() error {
				entered <- struct{}{}
				<-release
				return nil
			})
		}()
	}
	for range 3 {
		<-entered
	}
	ran := false
	if err := f.Do(context.Background(), "other", func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("another user's call: %v", err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Do(over, "greedy", func() error { t.Error("made all the same"); return nil }); err != context.Canceled {
		t.Errorf("a call that is given up: %v", err)
	}
	close(release)
	for range 10 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if f.busy > 0 || len(f.users) > 0 {
		t.Errorf("%d busy, %d users", f.busy, len(f.users))
	}
}
