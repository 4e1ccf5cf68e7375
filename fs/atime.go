package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/kmsfs/kmsfs/meta"
)

// relatimeAge is the age in seconds at which an access time is renewed though nothing changed, as with Linux' relatime.
const relatimeAge = 24 * 60 * 60

// atimeBatch bounds how many inodes one transaction gives new access times.
const atimeBatch = 256

// atimes keeps access times by the rules of relatime, gathers them and writes them in batches: reading must not cost a transaction each. A crash may
// lose those of the last second. Safe for concurrent use.
type atimes struct {
	meta    *meta.Store
	off     bool
	onFirst func() // called when there is something to write, after there was nothing; must not wait

	flushing sync.Mutex // held while a batch is written, and by a setter of an access time; taken before mu
	count    atomic.Int64

	mu      sync.Mutex
	pending map[meta.Ino]meta.Time // guarded by mu
}

func newAtimes(store *meta.Store, off bool) *atimes {
	return &atimes{meta: store, off: off, onFirst: func() {}, pending: make(map[meta.Ino]meta.Time)}
}

func before(a, b meta.Time) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }

// due says whether an access now gives the inode a new access time.
func due(a *meta.Attr, now meta.Time) bool {
	return !before(a.Mtime, a.Atime) || !before(a.Ctime, a.Atime) || now.Sec-a.Atime.Sec >= relatimeAge
}

// accessed notes an access to an inode whose attributes are a. It returns whether the access time changed.
func (t *atimes) accessed(a *meta.Attr) bool {
	if t.off {
		return false
	}
	now := Now()
	t.overlay(a)
	if !due(a, now) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending[a.Ino] = now
	if t.count.Swap(int64(len(t.pending))) == 0 {
		t.onFirst()
	}
	return true
}

// overlay puts the access time that is still to be written into a.
func (t *atimes) overlay(a *meta.Attr) {
	if t.count.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.pending[a.Ino]; ok {
		a.Atime = at
	}
}

// drop forgets what is to be written for an inode.
func (t *atimes) drop(ino meta.Ino) {
	if t.count.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, ino)
	t.count.Store(int64(len(t.pending)))
}

// set runs fn, which writes another access time of an inode: what is pending is dropped, and no batch that holds it is on its way.
func (t *atimes) set(ino meta.Ino, fn func() error) error {
	if t.off {
		return fn()
	}
	t.flushing.Lock()
	defer t.flushing.Unlock()
	t.drop(ino)
	return fn()
}

// flush writes what is pending.
func (t *atimes) flush(ctx context.Context) error {
	if t.count.Load() == 0 {
		return nil
	}
	t.flushing.Lock()
	defer t.flushing.Unlock()
	for {
		batch := t.batch()
		if len(batch) == 0 {
			return nil
		}
		err := t.write(ctx, batch)
		t.written(batch)
		if err != nil {
			return fmt.Errorf("write access times: %w", err)
		}
	}
}

// batch returns a copy of some of what is pending.
func (t *atimes) batch() map[meta.Ino]meta.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := make(map[meta.Ino]meta.Time, min(len(t.pending), atimeBatch))
	for ino, at := range t.pending {
		if len(batch) == atimeBatch {
			break
		}
		batch[ino] = at
	}
	return batch
}

// write puts a batch into the inode rows, ctime untouched. Inodes that are gone meanwhile are skipped.
func (t *atimes) write(ctx context.Context, batch map[meta.Ino]meta.Time) error {
	_, err := t.meta.Update(ctx, func(tx *meta.Tx) error {
		for ino, at := range batch {
			a, err := tx.Attr(ino)
			if errors.Is(err, meta.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			a.Atime = at
			if err := tx.PutAttr(a); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// written removes a batch, but for inodes that were accessed again meanwhile.
func (t *atimes) written(batch map[meta.Ino]meta.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, at := range batch {
		if t.pending[ino] == at {
			delete(t.pending, ino)
		}
	}
	t.count.Store(int64(len(t.pending)))
}
