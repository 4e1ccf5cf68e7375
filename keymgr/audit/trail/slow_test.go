package trail

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// slowTarget is a sink's other end that takes its time: as long as a test lets each delivery take.
type slowTarget struct {
	wait func(ctx context.Context) error // before each delivery; its error refuses it

	mu    sync.Mutex
	lines [][]byte // guarded by mu; delivered
}

func (s *slowTarget) Send(ctx context.Context, lines [][]byte) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		s.lines = append(s.lines, bytes.Clone(line))
	}
	return nil
}

func (s *slowTarget) Close() error { return nil }

// got gives the numbers of what was delivered, and fails the test if they are not ascending.
func (s *slowTarget) got(t *testing.T) map[int64]bool {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	all, last := map[int64]bool{}, int64(-1)
	for _, line := range s.lines {
		n, ok := sequenceOf(line)
		if !ok || n <= last {
			t.Fatalf("record %d after %d", n, last)
		}
		all[n], last = true, n
	}
	return all
}

// takes is a delivery that takes so long, or ends with its context.
func takes(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestSlowDisk: a disk on which each write and flush takes long slows operations down and loses nothing. Events of access are acknowledged in memory as long as they get to the disk in time, and wait for it
// otherwise.
func TestSlowDisk(t *testing.T) {
	dir, shm := filepath.Join(t.TempDir(), "audit"), tmpfs(t)
	l, d, n := faulty(t, dir, func(o *Options) { o.Spools = []string{shm} })
	d.set(func(d *faultDisk) {
		d.fault = func(op string) error {
			if op == "write" || op == "sync" {
				time.Sleep(30 * time.Millisecond)
			}
			return nil
		}
	})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < 160; i += 8 {
				if err := access(l, i); err != nil {
					t.Error(err)
				}
				if i%40 == 0 {
					if err := l.Record(t.Context(), of(audit.KeyUse, i)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	once(t, dir, 160)
}

// TestSlowSinkRequired: operations wait for a required sink. Where it takes longer than the limit they fail, in time, and what they recorded goes to the sink all the same when it takes events again.
func TestSlowSinkRequired(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	release := make(chan struct{})
	target := &slowTarget{wait: takes(5 * time.Millisecond)}
	slow := target.wait
	var mu sync.Mutex
	target.wait = func(ctx context.Context) error { mu.Lock(); wait := slow; mu.Unlock(); return wait(ctx) }
	o := options(dir)
	o.Sinks = []Sink{{Name: "slow", Required: true, Target: target}}
	l := open(t, o, n)
	for i := range 20 {
		if err := l.Record(t.Context(), of(audit.Class(1+i%3), i)); err != nil {
			t.Fatal(err)
		}
		if got := target.got(t); len(got) < i+2 { // and the beginning's
			t.Fatalf("operation %d goes on when %d records are delivered", i, len(got))
		}
	}
	mu.Lock()
	slow = func(ctx context.Context) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	mu.Unlock()
	l.opts.Limit = 200 * time.Millisecond // nobody records now
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			began := time.Now()
			if err := l.Record(context.Background(), of(audit.Class(1+i%3), 20+i)); !errors.Is(err, audit.ErrBlocked) {
				t.Errorf("a sink that takes longer than the limit: %v", err)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
	wg.Wait()
	close(release)
	l.opts.Limit = 30 * time.Second
	if err := l.Record(t.Context(), of(audit.KeyUse, 99)); err != nil {
		t.Error(err)
	}
	size := l.Status().Size
	if got := target.got(t); int64(len(got)) != size {
		t.Errorf("%d of %d records were delivered", len(got), size)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
}

// TestSlowSinkLoses: no operation waits for a sink that is not required. What does not fit into its queue is lost to it alone, and the log says how much that is.
func TestSlowSinkLoses(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	release := make(chan struct{})
	target := &slowTarget{wait: func(context.Context) error { <-release; return nil }}
	o := options(dir)
	o.Sinks = []Sink{{Name: "slow", Target: target}}
	l := open(t, o, n)
	const events = 400
	for i := range events {
		e := of(audit.Denial, i)
		e.Detail = string(bytes.Repeat([]byte{'x'}, 3*sinkBacklog/events))
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if got := target.got(t); len(got) != 0 {
		t.Fatalf("%d were delivered to a sink that takes none", len(got))
	}
	close(release)
	if err := l.Record(t.Context(), of(audit.KeyUse, 1)); err != nil { // the record of the gap comes before it
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := whole(t, dir, n.trust())
	var lost uint64
	records := int64(0)
	if err := Search(t.Context(), dir, Query{Internal: true}, func(f Found) error {
		records++
		if f.Event.Name == sinkGapName {
			lost += f.Event.Count
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := target.got(t)
	if lost < events/3 || uint64(len(got))+lost < uint64(events) {
		t.Errorf("of %d records %d were delivered, %d are said to be lost", records, len(got), lost)
	}
	if records != r.Records || uint64(len(got))+lost > uint64(records) {
		t.Errorf("%d delivered and %d lost of %d", len(got), lost, records)
	}
}
