package local

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// goroutines lists the functions that Badger, and what it is built on, have set going.
func goroutines() (running []string) {
	b := make([]byte, 8<<20)
	for _, stack := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if frames, by, ok := strings.Cut(stack, "\ncreated by github.com/dgraph-io/"); ok && !strings.HasPrefix(by, "badger/v4.(*Stream") {
			lines := strings.Split(frames, "\n") // the last two are the function and where it is
			name, _, _ := strings.Cut(lines[len(lines)-2], "(0x")
			running = append(running, strings.TrimPrefix(name, "github.com/dgraph-io/"))
		}
	}
	return running
}

// compactors counts those that look for tables to merge.
func compactors() (n int) {
	for _, name := range goroutines() {
		if strings.HasSuffix(name, "runCompactor") {
			n++
		}
	}
	return n
}

// quiet are those that may be there while Badger sleeps: they wait to be told something, or look every minute, and the allocator's every 2 s.
var quiet = []string{
	"badger/v4.(*DB).monitorCache", "badger/v4.(*DB).updateSize", "badger/v4.(*publisher).listenForUpdates", "badger/v4.(*valueLog).waitOnGC",
	"badger/v4.(*vlogThreshold).listenForValueThresholdUpdate", "badger/v4/y.(*WaterMark).process", "ristretto/v2/z.(*AllocatorPool).freeupAllocators",
}

// TestDozeAsKnown: sleeping is made of what Badger happens to do, so this fails when another version of it does it otherwise. Then doze.go has to be held against its source: that preparing a stream writer
// stops writes, flushes and compactors, that cancelling it sets them going, and that no table is merged for it.
func TestDozeAsKnown(t *testing.T) {
	s := open(t, create(t))
	asleep(t, s)
	for _, name := range goroutines() {
		if !slices.Contains(quiet, name) {
			t.Errorf("while it sleeps, Badger has %s going: does that look for work?", name)
		}
	}
	put(t, s, "k", "1")
	checkpointNow(t, s)
	if n := compactors(); n != s.db.Opts().NumCompactors {
		t.Errorf("%d compactors are going when it was woken up, not %d: the sleep is no sleep, or has no end", n, s.db.Opts().NumCompactors)
	}
}

// tables lists how many tables each level has.
func tables(s *Store) (n []int) {
	for _, l := range s.db.Levels() {
		n = append(n, l.NumTables)
	}
	return n
}

// asleep puts the store's Badger to sleep, and fails the test if it does not.
func asleep(t *testing.T, s *Store) {
	t.Helper()
	s.sleep()
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	if s.doze.asleep == nil {
		t.Fatal("it does not sleep")
	}
	if n := compactors(); n != 0 {
		t.Errorf("%d compactors run while it sleeps", n)
	}
	batch := s.db.NewWriteBatchAt(s.stamp + 1)
	defer batch.Cancel()
	if err := errors.Join(batch.Set([]byte("x"), nil), batch.Flush()); !errors.Is(err, badger.ErrBlockedWrites) {
		t.Errorf("written while it sleeps: %v", err)
	}
}

// TestDoze: an idle store's Badger sleeps, with its tables as they were; reading and updating go on, and whatever writes to it wakes it up: a checkpoint, a scrub, closing. What was written is there.
func TestDoze(t *testing.T) {
	opts := create(t)
	want := map[string]string{}
	for round := range 4 {
		s := open(t, opts)
		before := tables(s)
		if round > 0 && before[0] == 0 {
			t.Fatalf("no tables in level 0: %v", before)
		}
		asleep(t, s) // as it was opened: nothing in memory
		if now := tables(s); !slices.Equal(now, before) {
			t.Errorf("tables were %v, are %v", before, now)
		}
		if got := dump(t, s); !maps.Equal(got, want) {
			t.Errorf("rows %v, not %v", got, want)
		}
		k := fmt.Sprintf("key %d", round)
		put(t, s, k, "1")
		checkpointNow(t, s)
		if n := compactors(); n == 0 {
			t.Error("no compactors run when it is awake")
		}
		asleep(t, s) // with rows in memory
		asleep(t, s) // again
		put(t, s, k, "2")
		want[k] = "2"
		switch round {
		case 1:
			if err := s.Scrub(ctx); err != nil {
				t.Fatal(err)
			}
			put(t, s, k, "2")
			checkpointNow(t, s)
		case 2:
			checkpointNow(t, s)
			asleep(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.sleep() // a timer that was late
	}
}

// TestDozeBusy: falling asleep at any moment keeps no update and no checkpoint from succeeding.
func TestDozeBusy(t *testing.T) {
	opts := create(t)
	s := open(t, opts)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.sleep()
			}
		}
	})
	for i := range 60 {
		put(t, s, fmt.Sprint("key ", i), "1")
		if i%3 == 0 {
			checkpointNow(t, s)
		}
	}
	close(stop)
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	if got := dump(t, s); len(got) != 60 {
		t.Errorf("%d rows", len(got))
	}
}

// TestLateExport: an export for which there was no room is written by an idle store as soon as there is some, without another checkpoint.
func TestLateExport(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.MinFree, opts.Export = sim, 1<<20, true
	s := open(t, opts)
	put(t, s, "a", "1")
	s.step = func(step string) {
		if step == "export rows" {
			sim.free = 0
		}
	}
	checkpointNow(t, s)
	_, _, behind := s.export.state()
	if !errors.Is(behind, kv.ErrNoSpace) {
		t.Fatalf("export on a full disk: %v", behind)
	}
	s.sleep()
	if _, _, now := s.export.state(); now == nil || s.doze.asleep != nil {
		t.Fatalf("export without room: %v", now)
	}
	sim.free = 1 << 30
	s.sleep()
	if _, _, now := s.export.state(); now != nil {
		t.Fatalf("export with room again: %v", now)
	}
	if err := s.export.verify(ctx); err != nil {
		t.Fatal(err)
	}
	asleep(t, s)
}
