package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// smallWrite is up to how many bytes a write goes into the journal if a sync of its file is expected.
const smallWrite = 128 << 10

// WriteAt writes all of p at off and returns how many bytes were written: all, or with an error those before it. A gap behind the old end
// becomes a hole. mtime and ctime are set, unless opts says otherwise. On return the write survives the death of the process.
//
// Errors: ErrTooLarge, meta.ErrNoSpace or ENOSPC, and those of reading where a block is changed in part.
func (f *File) WriteAt(ctx context.Context, p []byte, off uint64, opts WriteOpts) (int, error) {
	if err := f.writable(off, uint64(len(p))); err != nil {
		return 0, fmt.Errorf("write inode %d: %w", f.ino, err)
	}
	done := 0
	for done < len(p) {
		chunk := p[done:min(done+maxChunk, len(p))]
		n := 0
		err := f.withKeys(ctx, func(k *keys) (err error) {
			n, err = f.writeChunk(ctx, k, chunk, off+uint64(done), opts)
			return err
		})
		if err != nil {
			return done, fmt.Errorf("write inode %d at %d: %w", f.ino, off+uint64(done), err)
		}
		done += n
	}
	f.wrote(1, len(p))
	return done, nil
}

// writable refuses what no write may do.
func (f *File) writable(off, n uint64) error {
	switch {
	case f.e.cfg.ReadOnly:
		return meta.ErrReadOnly
	case f.e.isClosed():
		return ErrClosed
	case f.e.objects.Failed():
		return object.ErrFailed
	case off > f.e.maxSize || n > f.e.maxSize-off:
		return ErrTooLarge
	}
	return nil
}

// writeChunk writes at most maxChunk bytes, in one transaction, and returns how many: what lies in one plane.
func (f *File) writeChunk(ctx context.Context, k *keys, p []byte, off uint64, opts WriteOpts) (int, error) {
	a := f.sealAhead(k, p, off)
	defer a.drop()
	return f.writeSealed(ctx, k, a, p, off, opts)
}

// writeSealed is writeChunk after some of the blocks may have been sealed.
func (f *File) writeSealed(ctx context.Context, k *keys, a *ahead, p []byte, off uint64, opts WriteOpts) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(k); err != nil {
		return 0, err
	}
	c := f.newChange(opts)
	defer c.count()
	if f.st.layout == meta.LayoutSlots {
		c.ahead = a
		plane := f.st.planeAt(off)
		p = p[:min(uint64(len(p)), plane.To-off)]
		c.next.size = max(f.st.size, off+uint64(len(p)))
		return len(p), f.writeSlots(ctx, k, c, plane, p, off, nil)
	}
	c.next.size = max(f.st.size, off+uint64(len(p)))
	old, err := f.readInline(ctx, k)
	if err != nil {
		return 0, err
	}
	if c.next.size > uint64(f.st.params.Inline) {
		f.leaveInline(c)
		return len(p), f.writeSlots(ctx, k, c, c.next.present(), p, off, old)
	}
	plain := make([]byte, max(len(old), int(off)+len(p)))
	copy(plain, old)
	copy(plain[off:], p)
	return len(p), f.writeInline(ctx, k, c, plain)
}

// writeSlots writes p at off as blocks of a plane, which is for all of them, and with them old, what was inline and stays, and commits. Called with mu
// held for writing.
func (f *File) writeSlots(ctx context.Context, k *keys, c *change, plane meta.Plane, p []byte, off uint64, old []byte) error {
	err := f.lay(ctx, k, c, plane, p, off, old)
	if err == nil {
		err = c.commit(ctx)
	}
	if err != nil {
		return f.undo(ctx, plane, err)
	}
	f.native = f.native || c.noInline
	return nil
}

// undo returns err, because of which a write to a plane was not committed, and cuts off what it has written behind the end of the file. Called with mu held for writing.
func (f *File) undo(ctx context.Context, plane meta.Plane, err error) error {
	if errors.Is(err, kv.ErrFailed) { // it may turn out to have been
		return err
	}
	if cut := f.cutLeftover(context.WithoutCancel(ctx), plane.Serial); cut != nil {
		return errors.Join(err, cut)
	}
	return err
}

// objectFor returns the inode's object to write to. One that has blocks already is looked for first: it counts as new when it is made.
func (f *File) objectFor(serial uint64) (*object.File, error) {
	id := f.e.object(f.ino, serial)
	if f.st.layout == meta.LayoutSlots && f.st.allocated > 0 {
		obj, err := f.e.objects.Get(id)
		if !errors.Is(err, object.ErrMissing) {
			return obj, err
		}
	}
	return f.e.objects.Create(id)
}
