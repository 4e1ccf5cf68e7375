package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// ballastName is the file beside meta/ and journal/ that keeps room for a checkpoint (docs/FORMAT.md 1). Its bytes mean nothing.
const ballastName = "ballast"

// minFree returns how much room is kept for checkpoints beyond what they bring: tables being made and merged, whose size goes by that of Badger's
// table in memory.
func minFree(memTable int64) int64 { return 10 * memTable }

// ballast is a file that holds room on the disk: it is emptied when a checkpoint would not fit otherwise, and filled again when there is plenty.
type ballast struct {
	want int64 // size to keep, in bytes

	mu   sync.Mutex
	file *os.File // guarded by mu; nil: there is none
	have int64    // guarded by mu; bytes that it holds on the disk
}

// openBallast takes the file that is there. Where it can't be had the room is kept by accounts alone: Owed counts it.
func openBallast(dir string, want int64, create bool) (*ballast, error) {
	b := &ballast{want: want}
	path := filepath.Join(dir, ballastName)
	flags := openFlags
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && !create {
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
	b.file, b.have = f, min(raw.Blocks*512, want)
	return b, nil
}

// missing returns how many bytes of the room it does not hold.
func (b *ballast) missing() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.want - b.have
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

// shrink gives back what it holds beyond so many bytes.
func (b *ballast) shrink(left int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil || b.have <= left {
		return nil
	}
	if err := b.file.Truncate(left); err != nil {
		return fmt.Errorf("shrink the ballast: %w", err)
	}
	b.have = left
	return nil
}

// fill takes its room from the disk, all or nothing. A filesystem that cannot preallocate leaves it empty.
func (b *ballast) fill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil || b.have == b.want {
		return nil
	}
	err := unix.Fallocate(int(b.file.Fd()), 0, 0, b.want)
	if err == nil {
		b.have = b.want
		return nil
	}
	b.have = 0
	return errors.Join(os.NewSyscallError("fill the ballast: fallocate", noSpace(err)), b.file.Truncate(0))
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

// openRoom finds the ballast and sees that there is room to open Badger, which writes then and does not survive a full disk. Error: kv.ErrNoSpace.
func openRoom(opts Options) (b *ballast, err error) {
	if opts.MinFree < 0 || opts.ReadOnly {
		return nil, nil
	}
	if b, err = openBallast(opts.Dir, opts.MinFree, opts.Ballast); err != nil {
		opts.Log.Warn("no ballast: the room for checkpoints is kept by accounts alone", "cause", err)
	}
	if err := makeRoom(opts, b, uint64(opts.MinFree/2)); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// makeRoom empties the ballast if less than need is free otherwise.
func makeRoom(opts Options, b *ballast, need uint64) error {
	free, err := opts.Files.Free()
	if err != nil || free >= need {
		return err
	}
	emptied, err := b.empty()
	if err != nil {
		return err
	}
	if emptied {
		opts.Log.Info("disk nearly full: the ballast makes room", "free", free, "needed", need)
		if free, err = opts.Files.Free(); err != nil {
			return err
		}
	}
	if free < need {
		return fmt.Errorf("%d bytes free, %d needed: %w", free, need, kv.ErrNoSpace)
	}
	return nil
}

// roomToCreate is openRoom for a store that is not there yet. Where Dir is not there either nobody looks.
func roomToCreate(opts Options) error {
	if opts.MinFree < 0 {
		return nil
	}
	free, err := freeAt(opts.Dir)
	if err != nil || free >= uint64(opts.MinFree/2) {
		return nil
	}
	return fmt.Errorf("create a store in %s: %d bytes free, %d needed: %w", opts.Dir, free, opts.MinFree/2, kv.ErrNoSpace)
}

// fillBallast fills it again as soon as that is possible: nobody else shall have its room.
func (s *Store) fillBallast() {
	if s.ballast == nil || !s.opts.Ballast {
		return
	}
	missing := s.ballast.missing()
	if missing == 0 {
		return
	}
	free, err := s.opts.Files.Free()
	if err == nil && free > uint64(missing) {
		err = s.ballast.fill()
	}
	if err != nil {
		s.log.Warn("ballast not filled", "cause", err)
	}
}

// restSegments is how many spare segments a store keeps while it is closed: with them it can be written to on a disk that others have filled meanwhile.
const restSegments = minSegments - 1

// rest gives back the room that a store does not need while it is closed. What is left suffices to open it on a full disk, to delete, and for the checkpoint that makes deleting give room.
func (s *Store) rest() {
	if err := s.journal.supply.trim(restSegments); err != nil {
		s.log.Warn("spare journal segments are left", "cause", err)
	}
	if s.ballast == nil || !s.opts.Ballast {
		return
	}
	if err := s.ballast.shrink(int64(s.need(minSegments * s.opts.SegmentSize))); err != nil {
		s.log.Warn("the ballast keeps its size", "cause", err)
	}
}

// need returns the room in bytes without which a checkpoint of so many bytes of journal does not begin. Where nobody else fills the disk it finds
// more (Owed); where the ballast is all that is left, it must do.
func (s *Store) need(journal int64) uint64 { return uint64(s.opts.MinFree/2 + journal) }

// Owed returns how many of the bytes that are free on the disk have been promised already: what a checkpoint takes to settle and write what waits
// in the journal, beyond the room that the ballast holds for it. Whoever puts anything else on the disk must leave as much.
func (s *Store) Owed() uint64 {
	if s.ballast == nil {
		return 0
	}
	owed := s.ballast.missing() + s.journal.pending()
	if s.export != nil {
		owed += s.journal.opsPending()
	}
	return uint64(owed)
}

// checkRoom refuses a checkpoint of so many bytes of journal on a disk that is nearly full. The ballast makes room, until fillBallast.
func (s *Store) checkRoom(journal int64) error {
	if s.ballast == nil {
		return nil
	}
	return makeRoom(s.opts, s.ballast, s.need(journal))
}

// exportRoom refuses so many bytes of export where they would take the room of the checkpoint that writes them.
func (s *Store) exportRoom(size int64) error {
	if s.ballast == nil {
		return nil
	}
	return s.leaves(uint64(size) + s.need(s.journal.pending()))
}

// exportSpare refuses so many bytes that can wait unless there is plenty of room.
func (s *Store) exportSpare(size int64) error {
	if s.ballast == nil {
		return nil
	}
	return s.leaves(4*uint64(size) + s.need(int64(s.Owed())))
}

// leaves refuses what needs so much free room where there is less.
func (s *Store) leaves(need uint64) error {
	free, err := s.opts.Files.Free()
	if err == nil && free < need {
		err = fmt.Errorf("%d bytes free, %d needed: %w", free, need, kv.ErrNoSpace)
	}
	return err
}

// segmentRoom refuses a further journal segment where it would take the room of a checkpoint; the first few are made wherever they fit.
func (s *Store) segmentRoom() error {
	if s.ballast == nil || s.journal.count() < minSegments {
		return nil
	}
	return s.leaves(s.Owed() + uint64(s.opts.SegmentSize))
}
