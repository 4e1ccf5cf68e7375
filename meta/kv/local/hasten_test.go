package local

import (
	"bytes"
	"slices"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// begun returns what the disk was told to begin with since the last call, as [from, to).
func (d *simFiles) begun() [][2]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := d.told
	d.told = nil
	return told
}

// TestHasten: the disk is told once of each record that is not durable, in whole pages.
func TestHasten(t *testing.T) {
	opts, files := create(t), newSimFiles()
	opts.Files = files
	s := open(t, opts)
	want := func(when string, ranges ...[2]int64) {
		t.Helper()
		if got := files.begun(); !slices.Equal(got, ranges) {
			t.Errorf("%s: the disk was told of %v, not %v", when, got, ranges)
		}
	}
	end := func() int64 {
		s.journal.mu.Lock()
		defer s.journal.mu.Unlock()
		return s.journal.off
	}
	sync := func() {
		t.Helper()
		syncNow(t, s, kv.Rev(s.Stats().Sequence))
	}
	page := func(off int64) int64 { return off &^ (pageSize - 1) }
	sync()
	files.begun()
	s.Hasten()
	want("with nothing appended")
	first := end()
	put(t, s, "a", string(bytes.Repeat([]byte("x"), 6000)))
	want("before it was asked for")
	s.Hasten()
	want("after a record", [2]int64{page(first), end()})
	s.Hasten()
	want("the second time")
	second := end()
	put(t, s, "b", "x")
	put(t, s, "c", "x")
	s.Hasten()
	want("after two records", [2]int64{page(second), end()})
	put(t, s, "d", "x")
	sync()
	s.Hasten()
	want("after a sync")
	for number := s.journal.current.number; s.journal.current.number == number; {
		put(t, s, "e", string(bytes.Repeat([]byte("x"), 30000)))
	}
	s.Hasten()
	want("in a new segment", [2]int64{0, end()})
}
