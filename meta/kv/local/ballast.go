package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// ballastName is the file beside meta/ and journal/ that keeps room for a checkpoint (docs/FORMAT.md 1). Its bytes mean nothing.
const ballastName = "ballast"

// ballast is a file that holds room on the disk: it is emptied when a checkpoint would not fit otherwise, and filled again when there is plenty.
type ballast struct {
	keep bool // it is made and filled; else what is there is used up

	mu   sync.Mutex
	file *os.File // guarded by mu; nil: there is none
	want int64    // guarded by mu; bytes that it should hold
	have int64    // guarded by mu; bytes that it holds on the disk
	lent bool     // guarded by mu; between lend and back
}

// openBallast takes the file that is there. Where it can't be had the room is kept by accounts alone: Owed counts it.
func openBallast(dir string, keep bool) (*ballast, error) {
	b := &ballast{keep: keep}
	path := filepath.Join(dir, ballastName)
	flags := openFlags
	if keep {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && !keep {
		return b, nil
	}
	if err != nil {
		return b, fmt.Errorf("open %s: %w", path, err)
	}
	st, err := f.Stat()
	if err != nil || !isPlain(st) {
		f.Close()
		return b, errors.Join(err, notPlain(ballastName))
	}
	var raw unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &raw); err != nil {
		f.Close()
		return b, os.NewSyscallError("fstat", err)
	}
	b.file, b.have = f, min(raw.Blocks*512, raw.Size)
	return b, nil
}

// missing returns how many bytes of the room it does not hold.
func (b *ballast) missing() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.want-b.have, 0)
}

// lend has it take nothing from the disk until back is called: a checkpoint has looked what there is.
func (b *ballast) lend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent = true
}

// back ends what lend began.
func (b *ballast) back() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent = false
}

// empty gives its room back to the disk. false if it has none.
func (b *ballast) empty() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have == 0 {
		return false, nil
	}
	if err := b.file.Truncate(0); err != nil {
		return false, fmt.Errorf("empty the ballast: %w", err)
	}
	b.have = 0
	return true, nil
}

// resize has it hold so many bytes from now on, all or nothing of what is missing, if free says that this leaves some. What it holds beyond is given back where that is half or more. A
// filesystem that cannot preallocate leaves it as it is.
func (b *ballast) resize(want int64, free func() (uint64, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.want = want
	if b.file == nil || !b.keep || b.lent {
		return nil
	}
	if b.have >= 2*want {
		return b.cut(want)
	}
	if b.have >= want {
		return nil
	}
	left, err := free()
	if err != nil || left <= uint64(want-b.have) {
		return err
	}
	if err := unix.Fallocate(int(b.file.Fd()), 0, 0, want); err != nil {
		return errors.Join(os.NewSyscallError("fill the ballast: fallocate", noSpace(err)), b.cut(b.have))
	}
	b.have = want
	return nil
}

// shrink gives back what it holds beyond so many bytes.
func (b *ballast) shrink(left int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil || !b.keep || b.have <= left {
		return nil
	}
	return b.cut(left)
}

// cut gives back what lies behind so many bytes. The caller holds b.mu.
func (b *ballast) cut(left int64) error {
	if err := b.file.Truncate(left); err != nil {
		return fmt.Errorf("shrink the ballast: %w", err)
	}
	b.have = left
	return nil
}

// close lets go of it. A nil ballast has nothing to let go of.
func (b *ballast) close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		b.file.Close()
		b.file = nil
	}
}
