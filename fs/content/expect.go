package content

import (
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// A file that is fsynced writes images, because these need one flush, of the journal, where blocks in slots need up to three: of the object, of its name, of the journal. Of
// a file that was synced lately it is expected that it will be again; and of a new one if others were in the same directory: databases, mail and editors make
// new files again and again and sync each once. Many of these are removed before a checkpoint, and then never have an object.
const (
	expectFor   = 30 * time.Second
	expectFiles = 256 // directories that are remembered
)

// smallFile is up to how many bytes a new file is written to the journal, whether or not a sync is expected, while that has room: making the object takes longer than
// all else about the file. The checkpoint makes it, with nobody waiting, or never, if the file has gone by then.
const smallFile = 64 << 10

// syncers remembers directories in which small new files were synced. Safe for concurrent use.
type syncers struct{ last *lru[meta.Ino, firstSync] }

// firstSync is that of a new file.
type firstSync struct {
	at     time.Time
	writes int64 // before it
}

func newSyncers() syncers { return syncers{newLRU[meta.Ino, firstSync](expectFiles)} }

func (s syncers) synced(dir meta.Ino, now time.Time, writes int64) {
	s.last.put(dir, firstSync{now, writes})
}

func (s syncers) expects(dir meta.Ino, now time.Time) bool { return s.writes(dir, now) > 0 }

// writes returns how many writes the last new file in the directory had before its sync; 0: none is expected of the next one.
func (s syncers) writes(dir meta.Ino, now time.Time) int64 {
	last, ok := s.last.get(dir)
	if !ok || now.Sub(last.at) >= expectFor {
		return 0
	}
	return last.writes
}

// expectsSync tells whether the file will probably be synced soon. size is what it is going to have. Called with mu held.
func (f *File) expectsSync(size uint64) bool {
	now := time.Now()
	if f.syncs.Load() > 0 {
		return now.UnixNano()-f.lastSync.Load() < int64(expectFor)
	}
	return size <= smallWrite && (f.native || f.st.layout != meta.LayoutSlots) && f.e.syncers.expects(f.dir, now)
}

// startsInJournal tells whether a file that is going to have size bytes is small and new, and the journal has room for it. Half of what makes a checkpoint due is left to what
// has to be there, so a long stream of small files is written once. Called with mu held.
func (f *File) startsInJournal(size uint64) bool {
	if size > f.e.small || !f.native && f.st.layout == meta.LayoutSlots {
		return false
	}
	waiting, due := f.e.cfg.KV.Backlog()
	return waiting < due/2
}

// wrote is called after writes that have n bytes. With the last of those that came before a sync the last time the disk begins with the journal: it is done with
// that when the answer is with the program and the sync is here. Once for each sync: if more writes come before it, the disk writes a page again.
func (f *File) wrote(writes int64, n int) {
	count := f.unsynced.Add(writes)
	if n > smallWrite {
		return
	}
	if usual := f.usualWrites(); usual > 0 && count >= usual && count-writes < usual {
		f.e.cfg.KV.Hasten()
	}
}

// usualWrites returns after how many writes a sync is expected; 0: none is.
func (f *File) usualWrites() int64 {
	now := time.Now()
	switch {
	case f.syncs.Load() == 0 && f.Size() <= smallWrite:
		return f.e.syncers.writes(f.dir, now)
	case now.UnixNano()-f.lastSync.Load() < int64(expectFor):
		return f.usual.Load()
	}
	return 0
}

// noteSync learns from a sync of the file.
func (f *File) noteSync() {
	now := time.Now()
	f.lastSync.Store(now.UnixNano())
	writes := f.unsynced.Swap(0)
	if writes > 0 {
		f.usual.Store(writes)
	}
	if f.syncs.Add(1) > 1 || f.Size() > smallWrite {
		return
	}
	f.mu.RLock()
	native := f.native
	f.mu.RUnlock()
	if native {
		f.e.syncers.synced(f.dir, now, max(writes, 1))
	}
}
