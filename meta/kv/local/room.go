package local

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// What a checkpoint takes, and everything else that Badger does, beside the bytes of the journal that it brings in:
//
//	work = 3/2 of what meta/ takes + 2 x the rows brought in + workFloor, at most half of MinFree
//
// Rows are written to Badger's log and once more to a table. Tables are written anew before those go that they are merged of, each by one merge at a time, and those
// that a reader is in stay a while longer. Badger merges a bounded number of bounded tables at a time: that is MinFree.
const workFloor = 2 << 20 // bytes: lists, first pages of files, and what the filesystem below takes for its own

// minFree returns the default of Options.MinFree: tables being made and merged, whose size goes by that of Badger's table in memory.
func minFree(memTable int64) int64 { return 10 * memTable }

// work returns the room in bytes that Badger needs to bring in so many bytes of rows.
func work(opts Options, rows int64) int64 {
	return workBeside(opts, used(metaDir(opts), opts.MinFree/2), rows)
}

// workBeside is work where meta/ takes so many bytes.
func workBeside(opts Options, meta, rows int64) int64 {
	return min(opts.MinFree/2, workFloor+meta+meta/2+2*rows)
}

// used returns how many bytes the files of a directory take on the disk; where that is more than limit, any such number.
func used(dir string, limit int64) (n int64) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0) // a pipe in its place would be waited for
	if err != nil {
		return 0 // whoever needs it says so
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				n += st.Blocks * 512
			}
		}
		if err != nil || n > limit {
			return n
		}
	}
}

// openRoom finds the ballast and sees that there is room to open Badger, which writes then and does not survive a full disk. Error: kv.ErrNoSpace.
func openRoom(opts Options) (b *ballast, err error) {
	if opts.MinFree < 0 || opts.ReadOnly {
		return nil, nil
	}
	if b, err = openBallast(opts.Dir, opts.Ballast); err != nil {
		opts.Log.Warn("no ballast: the room for checkpoints is kept by accounts alone", "cause", err)
	}
	if err := makeRoom(opts, b, uint64(work(opts, 0)), true); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// makeRoom empties the ballast if less than need is free otherwise. Where nobody else takes room meanwhile, which would fail (quiet), the disk is asked for it, whatever it says is free.
func makeRoom(opts Options, b *ballast, need uint64, quiet bool) error {
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
	if free < need && !(quiet && opts.Files.Has(need)) {
		return fmt.Errorf("%d bytes free, %d needed: %w", free, need, kv.ErrNoSpace)
	}
	return nil
}

// roomToCreate is openRoom for a store that is not there yet. Where Dir is not there either nobody looks.
func roomToCreate(opts Options) error {
	if opts.MinFree < 0 {
		return nil
	}
	need := work(opts, 0)
	free, err := freeAt(opts.Dir)
	if err != nil || free >= uint64(need) {
		return nil
	}
	return fmt.Errorf("create a store in %s: %d bytes free, %d needed: %w", opts.Dir, free, need, kv.ErrNoSpace)
}

// want returns how large the ballast is while the journal's files have so many bytes: with it all that they can hold is brought in on a disk that others have
// filled, up to MinFree. An eighth is for what Badger has grown by when it is needed.
func (s *Store) want(journal int64) int64 {
	need := int64(s.need(journal, journal))
	return min(s.opts.MinFree, need+need/8)
}

// fillBallast has the ballast hold what it should, as soon as that is possible: nobody else shall have its room.
func (s *Store) fillBallast() {
	if s.ballast == nil {
		return
	}
	_, journal := s.journal.supply.size()
	if err := s.ballast.resize(s.want(journal), s.opts.Files.Free); err != nil {
		s.log.Warn("ballast not filled", "cause", err)
	}
}

// takeBack ends what checkRoom began.
func (s *Store) takeBack() {
	if s.ballast == nil {
		return
	}
	s.ballast.back()
	s.fillBallast()
}

// restSegments is how many spare segments a store keeps while it is closed: with them it can be written to on a disk that others have filled meanwhile.
const restSegments = minSegments - 1

// restBallast gives back the room that a closed store does not need, when all else is closed. What is left suffices to open it on a full disk, to delete, and for the checkpoint that
// makes deleting give room.
func (s *Store) restBallast() {
	if s.ballast == nil || s.opts.ReadOnly || s.failure() != nil {
		return
	}
	_, journal := s.journal.supply.size()
	if err := s.ballast.shrink(s.want(journal)); err != nil {
		s.log.Warn("the ballast keeps its size", "cause", err)
	}
}

// restJournal gives back the room that the journal of a closed store does not need: it leaves a few segments of the least size. A current one that is larger is not cut: the chain goes on in a new one, and it is recycled.
func (s *Store) restJournal() error {
	j := s.journal
	if err := j.supply.trim(restSegments + 1); err != nil {
		return err
	}
	j.mu.Lock()
	seg := j.current
	if seg == nil || seg.size <= j.supply.least || !j.supply.has(0) {
		j.mu.Unlock()
		return j.supply.trim(restSegments)
	}
	err := j.rotate(0)
	seg = j.current
	j.mu.Unlock()
	if err == nil {
		err = j.settleHeader(seg)
	}
	if err != nil {
		return err
	}
	s.reclaim()
	return j.supply.trim(restSegments)
}

// need returns the room in bytes without which a checkpoint of so many bytes of journal, with so many of rows among them, does not begin. Where nobody else fills
// the disk it finds more (Owed); where the ballast is all that is left, it must do.
func (s *Store) need(journal, rows int64) uint64 { return uint64(work(s.opts, rows) + journal) }

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

// checkRoom refuses a checkpoint of so many bytes of journal, with so many of rows among them, on a disk that is nearly full. The ballast makes room, until takeBack.
func (s *Store) checkRoom(journal, rows int64) error {
	if s.ballast == nil {
		return nil
	}
	s.ballast.lend()
	return makeRoom(s.opts, s.ballast, s.need(journal, rows), !s.merging())
}

// exportRoom refuses so many bytes of export where they would take the room of the checkpoint that writes them.
func (s *Store) exportRoom(size int64) error {
	if s.ballast == nil {
		return nil
	}
	return s.leaves(uint64(size) + s.need(s.journal.pending(), s.journal.opsPending()))
}

// exportSpare refuses so many bytes that can wait unless there is plenty of room.
func (s *Store) exportSpare(size int64) error {
	if s.ballast == nil {
		return nil
	}
	return s.leaves(4*uint64(size) + s.need(int64(s.Owed()), s.journal.opsPending()))
}

// leaves refuses what needs so much free room where there is less.
func (s *Store) leaves(need uint64) error {
	free, err := s.opts.Files.Free()
	if err == nil && free < need {
		err = fmt.Errorf("%d bytes free, %d needed: %w", free, need, kv.ErrNoSpace)
	}
	return err
}

// segmentRoom refuses a further journal segment of so many bytes where it, or what the ballast grows by with it, would take the room of a checkpoint; the first
// few are made wherever they fit.
func (s *Store) segmentRoom(size int64) error {
	if s.ballast == nil || s.journal.count() < minSegments {
		return nil
	}
	_, journal := s.journal.supply.size()
	growth := s.want(journal+size) - s.want(journal)
	return s.leaves(s.Owed() + uint64(size+growth))
}
