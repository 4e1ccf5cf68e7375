package trail

import (
	"context"
	"path/filepath"
	"testing"
)

// TestRestarts: a stream goes on over clean ends and crashes, through many segments, and is whole each time.
func TestRestarts(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	o := options(dir)
	o.SegmentSize = 40 << 10
	next := 0
	for round := range 8 {
		l := open(t, o, n)
		record(t, l, next, next+90)
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		record(t, l, next+90, next+130)
		next += 130
		if round%2 == 0 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if r := whole(t, dir, n.trust()); r.Tail != 0 || r.Sealed != r.Records {
				t.Errorf("after a clean end: %+v", r)
			}
		} else {
			l.crash()
			if r := whole(t, dir, n.trust()); r.Tail < 40 || r.Tail > 60 {
				t.Errorf("after a crash: %+v", r)
			}
		}
	}
	seen := map[string]bool{}
	err := Search(context.Background(), dir, Query{}, func(f Found) error {
		seen[f.Event.Path] = true
		return nil
	})
	if err != nil || len(seen) != next {
		t.Errorf("%d of %d events are found, %v", len(seen), next, err)
	}
}

// TestKilledSoon: a process that dies after it has opened a stream that had ended cleanly, and before it has sealed anything, leaves a stream that opens.
func TestKilledSoon(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	o := options(dir)
	o.Stream = "00112233445566778899aabbccddeeff"
	for round := range 3 {
		l := open(t, o, n)
		record(t, l, 10*round, 10*round+10)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			open(t, o, n).crash()
		}
	}
	whole(t, dir, n.trust())
}
