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
