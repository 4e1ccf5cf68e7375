package content

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/meta"
)

// Part is a write of some blocks: Data at Off.
type Part struct {
	Off  uint64
	Data []byte
}

// maxParts bounds the bytes of parts that are written together, far below what a transaction holds.
const maxParts = 1 << 20

// WriteParts is WriteAt for several writes, in one transaction: all of them or none. done is false if that cannot be: for parts that are not whole blocks, or have one in
// common, for a file that moves or has its blocks compressed. Then, as after an error, nothing was done, and each can be written by itself.
func (f *File) WriteParts(ctx context.Context, parts []Part, opts WriteOpts) (done bool, err error) {
	total := 0
	for _, p := range parts {
		if total += len(p.Data); len(p.Data) == 0 || total > maxParts || f.writable(p.Off, uint64(len(p.Data))) != nil {
			return false, nil
		}
	}
	if overlapping(parts) {
		return false, nil
	}
	err = f.withKeys(ctx, func(k *keys) (err error) {
		done, err = f.writeParts(ctx, k, parts, opts)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("write %d parts of inode %d: %w", len(parts), f.ino, err)
	}
	if done {
		f.wrote(int64(len(parts)), total)
	}
	return done, nil
}

// overlapping tells whether any two of a few parts do.
func overlapping(parts []Part) bool {
	for i, p := range parts {
		for _, q := range parts[:i] {
			if p.Off < q.Off+uint64(len(q.Data)) && q.Off < p.Off+uint64(len(p.Data)) {
				return true
			}
		}
	}
	return false
}

func (f *File) writeParts(ctx context.Context, k *keys, parts []Part, opts WriteOpts) (bool, error) {
	sealed := make([]*ahead, len(parts))
	defer func() {
		for _, a := range sealed {
			a.drop()
		}
	}()
	for i, p := range parts {
		if sealed[i] = f.sealAhead(k, p.Data, p.Off); sealed[i] == nil || len(sealed[i].buf) != len(p.Data) {
			return false, nil
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(k); err != nil {
		return false, err
	}
	plane := f.st.present()
	c := f.newChange(opts)
	defer c.count()
	if f.st.layout != meta.LayoutSlots || f.st.moving() {
		return false, nil
	}
	for i, p := range parts {
		if sealed[i].plane != plane || sealed[i].epoch != c.epoch {
			return false, nil
		}
		c.next.size = max(c.next.size, p.Off+uint64(len(p.Data)))
	}
	return true, f.commitParts(ctx, k, c, plane, parts, sealed)
}

// commitParts writes parts, which were sealed for the plane, as one change. Called with mu held for writing.
func (f *File) commitParts(ctx context.Context, k *keys, c *change, plane meta.Plane, parts []Part, sealed []*ahead) error {
	for i, p := range parts {
		c.ahead = sealed[i]
		if err := f.lay(ctx, k, c, plane, p.Data, p.Off, nil); err != nil {
			return f.undo(ctx, plane, err)
		}
	}
	if err := c.commit(ctx); err != nil {
		return f.undo(ctx, plane, err)
	}
	return nil
}
