package trail

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// fullDisk is a disk without space while full is set: the last write that fails gets half-way.
type fullDisk struct {
	osDisk
	full *atomic.Bool
}

func (d fullDisk) Create(s segment, header []byte) (segmentFile, error) {
	f, err := d.osDisk.Create(s, header)
	return fullFile{f, d.full}, err
}

func (d fullDisk) Open(s segment) (segmentFile, error) {
	f, err := d.osDisk.Open(s)
	return fullFile{f, d.full}, err
}

func (d fullDisk) SetReserve(int64) error {
	if d.full.Load() {
		return unix.ENOSPC
	}
	return nil
}

type fullFile struct {
	segmentFile
	full *atomic.Bool
}

func (f fullFile) Write(p []byte) (int, error) {
	if !f.full.Load() {
		return f.segmentFile.Write(p)
	}
	n, err := f.segmentFile.Write(p[:len(p)/2])
	return n, errors.Join(err, unix.ENOSPC)
}

// TestFullAgainAndAgain: what is refused for want of space leaves nothing behind, though nothing else was written with it, and what was sealed before and after is all there
// when the process dies.
func TestFullAgainAndAgain(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	var full atomic.Bool
	o := options(dir)
	o.disk = fullDisk{osDisk{dir: filepath.Join(dir, KeyStream)}, &full}
	next := 0
	for range 2 {
		l := open(t, o, n)
		for range 3 {
			full.Store(true)
			for i := range 5 {
				if err := l.Record(t.Context(), event(i)); !errors.Is(err, audit.ErrFull) {
					t.Fatalf("on a full disk: %v", err)
				}
			}
			full.Store(false)
			l.w.askSpace = l.w.askSpace.Add(-never) // nobody writes now
			record(t, l, next, next+20)
			next += 20
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.crash()
	}
	whole(t, dir, n.trust())
}
