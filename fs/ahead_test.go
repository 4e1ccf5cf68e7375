package fs

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestAheadInOrder: files that are read in the directory's order bring those that follow, more each time; others bring nothing.
func TestAheadInOrder(t *testing.T) {
	r := newAhead(nil)
	entries := func(from, n int) (list []meta.DirentPlus) {
		for i := range n {
			list = append(list, meta.DirentPlus{Dirent: meta.Dirent{Cookie: uint64(from + i)}})
		}
		return list
	}
	note := func(cookie uint64, want stretch) {
		t.Helper()
		got, ok := r.note(7, cookie)
		if ok != (want.n > 0) || ok && got != want {
			t.Errorf("at %d: %+v, want %+v", cookie, got, want)
		}
	}
	note(10, stretch{})
	note(11, stretch{7, 11, leastAhead})
	note(12, stretch{}) // it is under way
	r.fetched(7, entries(12, 8))
	note(15, stretch{})
	note(16, stretch{7, 19, 2 * leastAhead})
	r.fetched(7, nil) // the end of the directory
	note(25, stretch{})
	note(9, stretch{}) // from the start
	note(8, stretch{}) // backwards
	note(10, stretch{7, 10, leastAhead})
}

// TestAheadOfListing: who has read many files in order gets those of the next directory with its listing, but not of many that he does not read.
func TestAheadOfListing(t *testing.T) {
	r := newAhead(nil)
	asked := func(dir meta.Ino) bool {
		r.listed(dir)
		select {
		case s := <-r.work:
			return s == stretch{dir, 0, mostAhead / 2}
		default:
			return false
		}
	}
	if asked(1) {
		t.Error("a listing alone brings files")
	}
	for i := range 3 * surely {
		r.note(1, uint64(10+i))
	}
	n := 0
	for dir := range meta.Ino(100) {
		if asked(2 + dir) {
			n++
		}
	}
	if want := surely/listingCost + 1; n != want {
		t.Errorf("the files of %d directories were fetched, want %d", n, want)
	}
	if r.note(200, 5); asked(201) {
		t.Error("it goes on")
	}
}

// TestAheadIsBounded: no more directories are remembered than there is room for.
func TestAheadIsBounded(t *testing.T) {
	r := newAhead(nil)
	l := newLapsed()
	for dir := range meta.Ino(2*maxListed + 5) {
		r.note(dir, 5)
		l.listed(dir, 1, true)
	}
	if len(r.dirs) > aheadDirs || len(l.dirs) > maxListed {
		t.Errorf("%d and %d directories", len(r.dirs), len(l.dirs))
	}
}

// TestWorthListing: a directory is listed anew when enough of its files were closed since.
func TestWorthListing(t *testing.T) {
	for _, c := range []struct {
		entries, closed int
		want            bool
	}{{10, 0, false}, {10, leastStale - 1, false}, {10, leastStale, true}, {100, 24, false}, {100, 25, true}, {2, leastStale, true}} {
		l := newLapsed()
		l.closed(5) // not listed: nothing is known
		l.listed(5, 1, true)
		l.listed(5, c.entries-1, false)
		for range c.closed {
			l.closed(5)
		}
		if got := l.worthListing(5); got != c.want {
			t.Errorf("%d of %d: %v", c.closed, c.entries, got)
		}
		if l.listed(5, c.entries, true); l.worthListing(5) {
			t.Error("just listed")
		}
	}
}
