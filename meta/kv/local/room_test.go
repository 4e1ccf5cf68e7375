package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// blocks returns how many bytes a file takes on the disk.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// full is the size of the ballast that a store should have, when the segment that is being made is there.
func full(s *Store) int64 {
	s.journal.supply.mu.Lock()
	run := s.journal.supply.inFlight
	s.journal.supply.mu.Unlock()
	if run != nil {
		<-run.done
	}
	_, journal := s.journal.supply.size()
	return s.want(journal)
}

// TestBallast: the ballast takes its room at once, gives it to a checkpoint that does not fit otherwise, and takes it back.
func TestBallast(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.MinFree, opts.Ballast = sim, 1<<20, true
	s := open(t, opts)
	path := filepath.Join(opts.Dir, ballastName)
	want := full(s)
	if n := blocks(t, path); n < want || want < opts.MinFree/2 {
		t.Fatalf("ballast of %d bytes, %d wanted", n, want)
	}
	put(t, s, "a", "1")
	if owed := s.Owed(); owed == 0 || owed > 1<<10 {
		t.Fatalf("%d bytes owed with the ballast there and a row in the journal", owed)
	}
	during := int64(-1)
	s.step = func(name string) {
		if name == "write rows" {
			during = blocks(t, path)
			sim.free = uint64(opts.MinFree) + 2 // what emptying gave
		}
	}
	sim.free = uint64(opts.MinFree / 2)
	if err := s.Checkpoint(ctx); !errors.Is(err, kv.ErrNoSpace) { // the simulated disk got nothing from emptying it
		t.Fatalf("checkpoint without room: %v", err)
	}
	if n := blocks(t, path); n != 0 {
		t.Fatalf("ballast of %d bytes after it should have made room", n)
	}
	if owed := s.Owed(); owed < uint64(want) {
		t.Fatalf("%d bytes owed without a ballast", owed)
	}
	sim.free = uint64(want)
	checkpointNow(t, s)
	if during != 0 {
		t.Errorf("ballast of %d bytes during the checkpoint", during)
	}
	if n := blocks(t, path); n < want {
		t.Errorf("ballast of %d bytes afterwards", n)
	}
}

// TestBallastGrows: the ballast of a store with little in it is small, has grown before the journal has, so that all that the journal may hold is brought in on a disk that others
// fill, and is as small again where it has no more to keep.
func TestBallastGrows(t *testing.T) {
	opts := create(t)
	opts.SegmentSize, opts.MaxJournal, opts.MinFree, opts.Ballast = 0, 0, 0, true
	s := open(t, opts)
	path := filepath.Join(opts.Dir, ballastName)
	empty := blocks(t, path)
	if empty > 6<<20 {
		t.Errorf("ballast of %d bytes in an empty store", empty)
	}
	value := make([]byte, 100<<10)
	for i := range 200 {
		put(t, s, fmt.Sprintf("key%d", i), string(value))
		if got, need := blocks(t, path), s.need(s.journal.pending(), s.journal.opsPending()); uint64(got) < need && need < uint64(minFree(largeMemTable)) {
			t.Fatalf("after %d rows: ballast of %d bytes, a checkpoint takes %d", i, got, need)
		}
	}
	if got := blocks(t, path); got <= 2*empty {
		t.Errorf("ballast of %d bytes with %d in the journal", got, s.journal.pending())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rows := used(filepath.Join(opts.Dir, metaName), 1<<40)
	if got, most := blocks(t, path), 2*empty+4*rows; got > most {
		t.Errorf("ballast of %d bytes in a closed store with tables of %d", got, rows)
	}
}

// TestJournalGrows: a journal begins with little, takes the largest transaction at once, grows to no more than twice of what it was used for, and a closed one has little again, without old files.
func TestJournalGrows(t *testing.T) {
	opts := create(t)
	opts.SegmentSize, opts.MaxJournal, opts.Settler = 0, 0, newSettler()
	dir := journalDir(opts)
	s := open(t, opts)
	if n := used(dir, 1<<40); n > 3*leastSegment {
		t.Errorf("a new journal takes %d bytes", n)
	}
	large := func() {
		t.Helper()
		_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
			for i := range 4 {
				x.Put(fmt.Appendf(nil, "B%d", i), make([]byte, s.caps.MaxTxnBytes/4-100))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	large()
	if n := used(dir, 1<<40); n > 2*DefaultSegmentSize {
		t.Errorf("a journal with one transaction of %d bytes takes %d", s.caps.MaxTxnBytes, n)
	}
	for range 9 {
		large()
	}
	if n, most := used(dir, 1<<40), 3*s.journal.pending()+DefaultSegmentSize; n > most {
		t.Errorf("a journal with %d bytes takes %d", s.journal.pending(), n)
	}
	put(t, s, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := used(dir, 1<<40); n > 3*leastSegment {
		t.Errorf("a closed journal takes %d bytes", n)
	}
	s = open(t, opts)
	if got := dump(t, s)["a"]; got != "1" {
		t.Errorf("opened again: %q", got)
	}
	large()
}

// TestOpenWithoutRoom: Badger is not opened on a full disk, which it would not survive.
func TestOpenWithoutRoom(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.MinFree = sim, 1<<20
	sim.free = 1 << 18
	if s, err := Open(ctx, opts); !errors.Is(err, kv.ErrNoSpace) {
		t.Fatalf("open without room: %v, %v", s, err)
	}
	sim.free = 1 << 30
	put(t, open(t, opts), "a", "1")
}

// TestHostileBallast: something else in place of the ballast is not touched.
func TestHostileBallast(t *testing.T) {
	opts := create(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(opts.Dir, ballastName)
	opts.Files, opts.MinFree, opts.Ballast = newSimFiles(), 1<<20, true
	for name, make := range map[string]func() error{
		"symlink":   func() error { return os.Symlink(victim, path) },
		"link":      func() error { return os.Link(victim, path) },
		"fifo":      func() error { return unix.Mkfifo(path, 0o600) },
		"directory": func() error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := make(); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			s := open(t, opts)
			put(t, s, "a", name)
			if want, owed := full(s), s.Owed(); owed < uint64(want) {
				t.Errorf("%d bytes owed without a ballast", owed)
			}
			checkpointNow(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
				t.Errorf("victim: %q, %v", b, err)
			}
		})
	}
}

// TestRest: a closed store keeps no more than it takes to open, write to and checkpoint it on a disk that others have filled meanwhile, takes the rest again when it is opened, and does all of that
// on such a disk.
func TestRest(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.MinFree, opts.Ballast = sim, 1<<20, true
	opts.SegmentSize, opts.MaxJournal = minSegmentSize, 16*minSegmentSize
	s := open(t, opts)
	path := filepath.Join(opts.Dir, ballastName)
	for i := 0; sim.count() < 8; i++ {
		put(t, s, "key"+string(rune('a'+i%20)), string(make([]byte, minSegmentSize/4)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := sim.count(); n > restSegments+1 {
		t.Errorf("%d segments are left", n)
	}
	left := opts.MinFree/2 + minSegments*opts.SegmentSize
	left += left / 8
	if n := blocks(t, path); n < left || n > left+64<<10 {
		t.Errorf("a ballast of %d bytes is left, not %d", n, left)
	}
	sim.free = 0 // what it gives when it is emptied is not on the simulated disk
	if s, err := Open(ctx, opts); !errors.Is(err, kv.ErrNoSpace) {
		t.Fatalf("opened on a full disk: %v, %v", s, err)
	}
	sim.free = uint64(left)
	s = open(t, opts)
	put(t, s, "a", "1")
	checkpointNow(t, s)
	if n := blocks(t, path); n != 0 {
		t.Errorf("a ballast of %d bytes on a full disk", n)
	}
	sim.free = 1 << 30
	put(t, s, "a", "2")
	checkpointNow(t, s)
	if n := blocks(t, path); n < full(s) {
		t.Errorf("a ballast of %d bytes where there is room again", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
