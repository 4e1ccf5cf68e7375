package trail

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

const errNoSpace = unix.ENOSPC

// acked is what was acknowledged: events by path, with when that was.
type acked struct {
	mu     sync.Mutex
	events map[string]time.Time // acknowledged by then
	began  map[string]time.Time // and asked for then
	firm   map[string]bool      // those that a power cut must leave
}

// TestPowerCuts: logs that nobody touched are whole after power cuts and deaths of the process, whatever lay between two flushes; what was acknowledged as durable is there, and what was
// acknowledged longer than audit.FlushWithin before. 20 trials, 200 in the long form.
func TestPowerCuts(t *testing.T) {
	trials := 12
	if os.Getenv("KMSFS_LONG") == "1" {
		trials = 200
	}
	const seed = 8
	for trial := range trials {
		rng := rand.New(rand.NewPCG(seed, uint64(trial)))
		dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
		shm := tmpfs(t)
		a := &acked{events: map[string]time.Time{}, began: map[string]time.Time{}, firm: map[string]bool{}}
		cut := false
		for life := range 3 {
			o := options(dir)
			o.SegmentSize = 20<<10 + rng.Int64N(100<<10)
			d := &faultDisk{osDisk: osDisk{dir: filepath.Join(dir, KeyStream)}}
			if o.Flushed = trial%2 == 0; o.Flushed {
				d.ahead = 4<<10 + rng.Int64N(40<<10)
			}
			o.disk, o.Spools = d, []string{shm}
			l := open(t, o, n)
			if cut {
				a.settle(t, dir)
				cut = false
			}
			a.load(t, l, 1000*life, rng)
			if rng.IntN(3) == 0 {
				n.mu.Lock()
				n.mute = true
				n.mu.Unlock()
				_ = l.Seal(t.Context()) // anchored, and the answer lost
				n.mu.Lock()
				n.mute = false
				n.mu.Unlock()
			}
			power := rng.IntN(2) == 0
			d.set(func(d *faultDisk) { d.fault = func(string) error { return unix.EIO } }) // nothing reaches the disk any more
			l.crash()
			if power {
				if err := errors.Join(d.cutPower(rng), os.RemoveAll(shm), os.Mkdir(shm, 0o700)); err != nil {
					t.Fatal(err)
				}
				cut = true
			}
			r := whole(t, dir, n.trust())
			if t.Failed() {
				t.Fatalf("seed %d, trial %d, life %d: %+v", seed, trial, life, r)
			}
		}
		o := options(dir)
		o.Spools = []string{shm}
		if err := open(t, o, n).Close(); err != nil { // what is behind the end is cut off now
			t.Error(err)
		}
		if cut {
			a.settle(t, dir)
		}
		whole(t, dir, n.trust())
		a.check(t, dir)
	}
}

// load records events from several goroutines, seals between them, and notes what is acknowledged.
func (a *acked) load(t *testing.T, l *Log, from int, rng *rand.Rand) {
	var wg sync.WaitGroup
	for g := range 4 {
		seed := rng.Uint64()
		wg.Go(func() {
			own := rand.New(rand.NewPCG(seed, uint64(g)))
			for i := range 20 + own.IntN(20) {
				e := event(from + 100*g + i)
				e.Durable = own.IntN(20) == 0
				began := time.Now()
				if err := l.Record(context.Background(), e); err != nil {
					t.Error(err)
					return
				}
				a.mu.Lock()
				a.events[e.Path], a.began[e.Path], a.firm[e.Path] = time.Now(), began, e.Durable || e.Class != audit.Access
				a.mu.Unlock()
				if own.IntN(30) == 0 {
					_ = l.Seal(context.Background())
				}
			}
		})
	}
	wg.Wait()
}

// settle drops what a power cut took and may take: what was acknowledged within audit.FlushWithin. How long ago that was depends on when this process got to run.
func (a *acked) settle(t *testing.T, dir string) {
	t.Helper()
	found := inLog(t, dir)
	var first, last time.Time // that the earliest was acknowledged by, and the latest asked for
	for path, at := range a.events {
		if found[path] || a.firm[path] {
			a.firm[path] = true // it has survived, or check complains
			continue
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if began := a.began[path]; began.After(last) {
			last = began
		}
		delete(a.events, path)
	}
	if span := last.Sub(first); span > audit.FlushWithin {
		t.Errorf("a power cut took what was acknowledged in %v", span)
	}
}

func inLog(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	if err := Search(context.Background(), dir, Query{}, func(f Found) error { found[f.Event.Path] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	return found
}

func (a *acked) check(t *testing.T, dir string) {
	found := inLog(t, dir)
	for path := range a.events {
		if !found[path] {
			t.Errorf("%s was acknowledged and is lost", path)
		}
	}
}
