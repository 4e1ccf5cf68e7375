package local

import (
	"errors"
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

// TestBallast: the ballast takes its room at once, gives it to a checkpoint that does not fit otherwise, and takes it back.
func TestBallast(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.MinFree, opts.Ballast = sim, 1<<20, true
	s := open(t, opts)
	path := filepath.Join(opts.Dir, ballastName)
	if n := blocks(t, path); n < opts.MinFree {
		t.Fatalf("ballast of %d bytes", n)
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
	if owed := s.Owed(); owed < uint64(opts.MinFree) {
		t.Fatalf("%d bytes owed without a ballast", owed)
	}
	sim.free = uint64(opts.MinFree)
	checkpointNow(t, s)
	if during != 0 {
		t.Errorf("ballast of %d bytes during the checkpoint", during)
	}
	if n := blocks(t, path); n < opts.MinFree {
		t.Errorf("ballast of %d bytes afterwards", n)
	}
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
			if owed := s.Owed(); owed < uint64(opts.MinFree) {
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
	if n := blocks(t, path); n < opts.MinFree {
		t.Errorf("a ballast of %d bytes where there is room again", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
