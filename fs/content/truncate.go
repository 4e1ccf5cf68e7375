package content

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// batchRows is how many map rows one transaction clears at most.
const batchRows = 512

// Truncate sets the size. What is cut off reads as zeros if the file grows again. mtime and ctime are set, also if the size was this before. If it
// is interrupted by a crash the size may be anything between the old and the new one.
//
// Errors: ErrTooLarge, and those of reading where a block is cut.
func (f *File) Truncate(ctx context.Context, size uint64, opts WriteOpts) error {
	err := f.writable(size, 0)
	if err == nil {
		err = f.withKeys(ctx, func(k *keys) error { return f.truncate(ctx, k, size, opts) })
	}
	if err != nil {
		return fmt.Errorf("truncate inode %d to %d: %w", f.ino, size, err)
	}
	return nil
}

func (f *File) truncate(ctx context.Context, k *keys, size uint64, opts WriteOpts) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(k); err != nil {
		return err
	}
	switch {
	case size >= f.st.size:
		return f.resize(ctx, size, opts)
	case f.st.layout == meta.LayoutSlots:
		return f.shrinkSlots(ctx, k, size, opts)
	default:
		return f.shrinkInline(ctx, k, size, opts)
	}
}

// ready returns the error that makes withKeys bring a usable key of the current epoch. Called with mu held.
func (f *File) ready(k *keys) error {
	if f.uses.left(f.e.maxUses) < epochReserve {
		return errEpochFull
	}
	_, err := k.get(f.epoch.Load(), int(f.st.params.BlockSize))
	return err
}

// resize changes the size alone. Called with mu held for writing.
func (f *File) resize(ctx context.Context, size uint64, opts WriteOpts) error {
	c := f.newChange(opts)
	c.next.size = size
	return c.commit(ctx)
}

func (f *File) shrinkInline(ctx context.Context, k *keys, size uint64, opts WriteOpts) error {
	c := f.newChange(opts)
	defer c.count()
	c.next.size = size
	plain, err := f.readInline(ctx, k)
	if err != nil {
		return err
	}
	if uint64(len(plain)) > size {
		if err := f.sealInline(k, c, plain[:size]); err != nil {
			return err
		}
	}
	return c.commit(ctx)
}

// shrinkSlots cuts the file from its end, a window of map rows in each transaction, so that at no time there are entries behind the end: they
// would come to light when the file grows again. Windows grow over large holes.
func (f *File) shrinkSlots(ctx context.Context, k *keys, size uint64, opts WriteOpts) error {
	if before := f.st.before(); f.st.moving() && size < before.To && f.st.size > before.To {
		if err := f.shrinkPlane(ctx, k, f.st.present(), before.To, opts); err != nil {
			return err
		}
	}
	return f.shrinkPlane(ctx, k, f.st.planeAt(size), size, opts)
}

// shrinkPlane is shrinkSlots in one plane, which the file ends in.
func (f *File) shrinkPlane(ctx context.Context, k *keys, p meta.Plane, size uint64, opts WriteOpts) error {
	bottom, _ := meta.RowOf(p.End(size))
	top, _ := meta.RowOf(p.End(f.st.size))
	for window := uint64(batchRows); ; {
		low := bottom
		if top-bottom >= window {
			low = top - window + 1
		}
		rows, more, err := f.rowsIn(ctx, low, top, batchRows)
		switch {
		case err != nil:
			return err
		case more:
			window = max(window/4, batchRows)
			continue
		case low == bottom:
			return f.shrinkLast(ctx, k, p, size, rows, opts)
		case len(rows) > 0:
			if err := f.shrinkBatch(ctx, p, low*meta.MapRowBlocks, rows, opts); err != nil {
				return err
			}
			window = batchRows
		default:
			window *= 4
		}
		top = low - 1
	}
}

// shrinkBatch cuts the file to the blocks before first.
func (f *File) shrinkBatch(ctx context.Context, p meta.Plane, first uint64, rows []mapped, opts WriteOpts) error {
	c := f.newChange(opts)
	c.next.size = min(f.st.size, p.Start(first))
	if err := c.cut(ctx, p, first, rows); err != nil {
		return err
	}
	return c.commit(ctx)
}

// cut releases everything of a plane from a block on; rows are all that hold entries there. If there are none, the object may still be longer: slots
// that lost their entries before are cut off with the new end.
func (c *change) cut(ctx context.Context, p meta.Plane, first uint64, rows []mapped) error {
	for i := range rows {
		c.remove(&rows[i], first, p.Limit())
	}
	return c.release(ctx, p, first, p.Limit())
}

// shrinkLast is the last step: nothing is left behind it but what the new size keeps.
func (f *File) shrinkLast(ctx context.Context, k *keys, p meta.Plane, size uint64, rows []mapped, opts WriteOpts) error {
	c := f.newChange(opts)
	defer c.count()
	c.next.size = size
	if size == 0 {
		for i := range rows {
			c.remove(&rows[i], p.Base, p.Limit())
		}
		return c.leaveSlots(ctx)
	}
	if err := c.cut(ctx, p, p.End(size), rows); err != nil {
		return err
	}
	if keep := blockcrypt.OffsetInBlock(size, p.BlockSize); keep > 0 {
		if err := f.zeroPart(ctx, k, c, p, p.End(size)-1, keep, p.BlockSize); err != nil {
			return err
		}
	}
	return c.commit(ctx)
}

// leaveSlots commits a change that took the last entries of the file away, as one to no object.
func (c *change) leaveSlots(ctx context.Context) error {
	for _, p := range c.f.st.planes() {
		if err := c.releaseObject(ctx, p); err != nil {
			return err
		}
	}
	c.noObject = true
	c.next.layout, c.next.allocated, c.next.upper, c.next.former = meta.LayoutInline, 0, false, meta.Former{}
	return c.commit(ctx)
}

// zeroPart adds to a change that bytes [lo, hi) of a block become zeros: an image of the block with them zeroed, or of the part before if nothing
// follows. Called with mu held for writing.
func (f *File) zeroPart(ctx context.Context, k *keys, c *change, p meta.Plane, block uint64, lo, hi int) error {
	rows, err := f.mapRows(ctx, block, block+1, nil)
	if err != nil {
		return err
	}
	old := *entryIn(rows, block, block)
	n := int(old.PlainLen)
	if !old.Present || lo >= n {
		return nil
	}
	if lo == 0 && hi >= n {
		c.set(block, rows[0], meta.Entry{})
		return c.release(ctx, p, block, block+1)
	}
	loan, buf := borrow(n)
	defer loan.giveBack()
	if err := f.readBlock(ctx, k, p, block, buf); err != nil {
		return err
	}
	if hi >= n {
		buf = buf[:lo]
	} else {
		clear(buf[lo:hi])
	}
	w := &writer{f: f, k: k, c: c, plane: p, first: block, rows: rows}
	return w.sealImage(block, buf)
}
