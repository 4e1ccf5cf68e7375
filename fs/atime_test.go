package fs

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func TestRelatime(t *testing.T) {
	at := func(sec int64, nsec uint32) meta.Time { return meta.Time{Sec: sec, Nsec: nsec} }
	now := at(1_000_000, 5)
	for _, c := range []struct {
		name                string
		atime, mtime, ctime meta.Time
		want                bool
	}{
		{"read after the last change", at(999_000, 0), at(998_000, 0), at(998_000, 0), false},
		{"changed since", at(999_000, 0), at(999_000, 1), at(998_000, 0), true},
		{"changed at the same time", at(999_000, 0), at(999_000, 0), at(998_000, 0), true},
		{"attributes changed since", at(999_000, 0), at(998_000, 0), at(999_000, 1), true},
		{"a day old", at(1_000_000-relatimeAge, 0), at(0, 0), at(0, 0), true},
		{"not quite a day old", at(1_000_001-relatimeAge, 0), at(0, 0), at(0, 0), false},
	} {
		if got := due(&meta.Attr{Atime: c.atime, Mtime: c.mtime, Ctime: c.ctime}, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestReleasedInodesKeepNoAccessTime: the access time of a file that is gone is written by nobody. A program that reads, closes and removes a file and syncs the directory
// would wait for it.
func TestReleasedInodesKeepNoAccessTime(t *testing.T) {
	fs := &FS{atimes: newAtimes(nil, false)}
	fs.upkeep = newUpkeep(fs)
	for ino := meta.Ino(7); ino < 9; ino++ {
		if !fs.atimes.accessed(&meta.Attr{Ino: ino}) {
			t.Fatal("an access time was not noted")
		}
	}
	fs.upkeep.release(7)
	if batch := fs.atimes.batch(); len(batch) != 1 || batch[8] == (meta.Time{}) {
		t.Errorf("to be written: %v", batch)
	}
}
