package trail

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// TestSearchMerges: events of several streams come by time, those of one stream in its order; the end of a search that has enough leaves nothing behind.
func TestSearchMerges(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	begin := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	const streams, each = 3, 400
	for s := range streams {
		o := options(dir)
		o.Stream, o.SegmentSize = fmt.Sprintf("stream%d", s), 40<<10
		l := open(t, o, n)
		for i := range each {
			e := of(audit.Access, i)
			e.Time = begin.Add(time.Duration(i*streams+s) * time.Second)
			if i%100 == 50 {
				e.Time = begin // a clock that was set back
			}
			if err := l.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.packAll(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	next, last := map[string]uint64{}, begin
	backwards, found := 0, 0
	err := Search(t.Context(), dir, Query{}, func(f Found) error {
		if f.Event.Sequence < next[f.Stream] {
			t.Errorf("stream %s: record %d after %d", f.Stream, f.Event.Sequence, next[f.Stream])
		}
		if p, err := audit.Parse(f.Line); err != nil || p.ID != f.Event.ID {
			t.Fatalf("the line is not the event's: %v", err)
		}
		if next[f.Stream] = f.Event.Sequence + 1; f.Event.Time.Before(last) {
			backwards++
		}
		last = f.Event.Time
		found++
		return nil
	})
	if err != nil || found != streams*each || backwards > streams*4 {
		t.Errorf("%d events, %d times backwards, %v", found, backwards, err)
	}
	enough := errors.New("enough")
	if err := Search(t.Context(), dir, Query{}, func(Found) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
}

// TestTailMissesNothing: while events are recorded, what was before and what comes after the beginning of a tail is everything, once.
func TestTailMissesNothing(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	o := options(dir)
	o.SegmentSize = 50 << 10
	l := open(t, o, n)
	const total = 3000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range total {
			if err := access(l, i); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 10 {
		if err := access(l, total); err != nil { // so that there is something before
			t.Fatal(err)
		}
	}
	tail, err := NewTail(dir, Query{Path: "/acked"})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	note := func(f Found) error { count[f.Event.Path]++; return nil }
	if err := tail.Before(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = tail.Follow(ctx, func(f Found) error {
		if note(f); len(count) == total+1 {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range total {
		if got := count[fmt.Sprintf("/acked/%d", i)]; got != 1 {
			t.Fatalf("event %d came %d times", i, got)
		}
	}
}
