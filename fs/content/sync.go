package content

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// durability remembers how far the volume is known to be durable.
type durability struct {
	mu     sync.Mutex
	synced kv.Rev // guarded by mu; revisions up to this one survive a power cut, with the data they point to
}

func (d *durability) reached(rev kv.Rev) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced >= rev
}

func (d *durability) reach(rev kv.Rev) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = max(d.synced, rev)
}

// Sync is fsync: content, size, name, keys and attributes of the inode as of the call survive a power cut.
//
// Errors: kv.ErrFailed, object.ErrFailed: the disk did not take it, now or earlier; nothing can be written until the volume is opened again.
func (f *File) Sync(ctx context.Context) error {
	if f.e.cfg.ReadOnly {
		return nil
	}
	f.noteSync()
	err := f.e.healthy()
	if err == nil {
		err = f.syncContent(ctx)
	}
	if err == nil {
		err = f.e.cfg.KV.Sync(ctx, f.e.meta.LastRev())
	}
	if err != nil {
		return fmt.Errorf("sync inode %d: %w", f.ino, err)
	}
	return nil
}

// healthy returns object.ErrFailed once a sync of objects has failed: the kernel may have dropped what it could not write, and nothing that is
// synced later may be taken for a sign that it did not.
func (e *Engine) healthy() error {
	if e.objects.Failed() {
		return object.ErrFailed
	}
	return nil
}

// syncContent makes direct writes durable and marks them so in the journal. Those that wait for a sync of the same File find it done.
func (f *File) syncContent(ctx context.Context) error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	if !f.e.tidy.Load() { // the process before may have left data unsynced
		if err := f.e.objects.SyncAll(); err != nil {
			return err
		}
	}
	written, dirty := f.res.unsynced()
	if !dirty {
		return nil
	}
	f.mu.RLock()
	st := f.st
	f.mu.RUnlock()
	if st.layout == meta.LayoutSlots {
		if err := f.syncPlanes(&st); err != nil {
			return err
		}
	}
	if err := f.mark(ctx, written); err != nil {
		return err
	}
	f.res.markSynced(written)
	return nil
}

// syncPlanes makes the objects of a file durable. One of two may not have been written to yet, nor the one that a file has moved to; and one that the file has left
// meanwhile may be destroyed already.
func (f *File) syncPlanes(st *state) error {
	planes := st.planes()
	for _, p := range planes {
		err := f.syncObject(p.Serial)
		if errors.Is(err, object.ErrMissing) && (len(planes) > 1 || f.res.wroteElsewhere() || !f.has(p.Serial)) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// has tells whether an object is the file's now.
func (f *File) has(serial uint64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, ok := f.st.planeWith(serial)
	return ok
}

func (f *File) syncObject(serial uint64) error {
	obj, err := f.e.objects.Get(f.e.object(f.ino, serial))
	if errors.Is(err, object.ErrMissing) {
		return fmt.Errorf("object to sync: %w", damaged(err))
	}
	if err != nil {
		return err
	}
	defer obj.Release()
	return obj.Datasync()
}

// mark says in the journal that the first written direct writes are durable, unless more were committed since: the marker would cover them too.
// Without a marker recovery compares checksums, so nothing is lost.
func (f *File) mark(ctx context.Context, written uint64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if now, _ := f.res.unsynced(); now != written {
		return nil
	}
	_, err := f.e.meta.Update(ctx, func(tx *meta.Tx) error { return tx.PutMarker(f.ino) })
	return err
}

// SyncContent makes what was written directly to an inode's object durable, and says so in the journal, without waiting for the journal: what
// must happen before a rename puts the inode in place of another file. It costs nothing if nothing was written directly.
func (e *Engine) SyncContent(ctx context.Context, ino meta.Ino) error {
	e.mu.Lock()
	r := e.residues[ino]
	e.mu.Unlock()
	if r == nil {
		return nil
	}
	if _, dirty := r.unsynced(); !dirty {
		return nil
	}
	f, err := e.Open(ctx, ino)
	if errors.Is(err, meta.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.syncContent(ctx)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("sync content of inode %d: %w", ino, err)
	}
	return nil
}

// SyncAll makes everything that was changed in the volume durable, names and attributes included.
func (e *Engine) SyncAll(ctx context.Context) error {
	if e.cfg.ReadOnly {
		return nil
	}
	if err := e.healthy(); err != nil {
		return fmt.Errorf("sync everything: %w", err)
	}
	rev := e.meta.LastRev()
	if e.durable.reached(rev) {
		return nil
	}
	dirty := e.dirty()
	if len(dirty) > 0 || !e.tidy.Load() {
		if err := e.syncObjects(ctx, dirty); err != nil {
			return fmt.Errorf("sync everything: %w", err)
		}
	}
	if err := e.cfg.KV.Sync(ctx, e.meta.LastRev()); err != nil {
		return fmt.Errorf("sync everything: %w", err)
	}
	e.durable.reach(rev)
	return nil
}

// fewDirty is up to how many dirty objects are synced one by one; more are by one sync of the filesystem below.
const fewDirty = 4

// dirty returns the residues of inodes with direct writes that are not known to be durable.
func (e *Engine) dirty() []*residue {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*residue
	for _, r := range e.residues {
		if _, dirty := r.unsynced(); dirty {
			out = append(out, r)
		}
	}
	return out
}

func (e *Engine) syncObjects(ctx context.Context, dirty []*residue) error {
	if len(dirty) <= fewDirty && e.tidy.Load() {
		for _, r := range dirty {
			if err := e.SyncContent(ctx, r.ino); err != nil {
				return err
			}
		}
		return nil
	}
	written := make([]uint64, len(dirty))
	for i, r := range dirty {
		written[i], _ = r.unsynced()
	}
	if err := e.objects.SyncAll(); err != nil {
		return err
	}
	for i, r := range dirty {
		if err := e.markIfThere(ctx, r.ino, written[i]); err != nil {
			return err
		}
		r.markSynced(written[i])
	}
	return nil
}

// markIfThere is mark for an inode that may be closed or gone.
func (e *Engine) markIfThere(ctx context.Context, ino meta.Ino, written uint64) error {
	f, err := e.Open(ctx, ino)
	if errors.Is(err, meta.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.mark(ctx, written)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
