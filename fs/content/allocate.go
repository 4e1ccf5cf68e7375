package content

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// Fallocate is fallocate(2) with mode 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE|KEEP_SIZE or FALLOC_FL_ZERO_RANGE with or without KEEP_SIZE.
// Modes that neither punch nor zero set the size and reserve nothing. If it is interrupted by a crash any part of the range may have been done.
//
// Errors: ErrMode, ErrTooLarge, and those of reading where a block is changed in part.
func (f *File) Fallocate(ctx context.Context, mode uint32, off, n uint64, opts WriteOpts) error {
	err := f.writable(off, n)
	if err == nil {
		switch mode {
		case 0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
			unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE:
			err = f.withKeys(ctx, func(k *keys) error { return f.fallocate(ctx, k, mode, off, off+n, opts) })
		default:
			err = ErrMode
		}
	}
	if err != nil {
		return fmt.Errorf("fallocate inode %d, mode %#x, %d bytes at %d: %w", f.ino, mode, n, off, err)
	}
	return nil
}

func (f *File) fallocate(ctx context.Context, k *keys, mode uint32, off, end uint64, opts WriteOpts) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(k); err != nil {
		return err
	}
	size := f.st.size
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		size = max(size, end)
	}
	zero := mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0
	end = min(end, f.st.size)
	switch {
	case !zero || off >= end:
		return f.resize(ctx, size, opts)
	case f.st.layout == meta.LayoutSlots:
		return f.zeroSlots(ctx, k, off, end, size, opts)
	default:
		return f.zeroInline(ctx, k, off, end, size, opts)
	}
}

func (f *File) zeroInline(ctx context.Context, k *keys, off, end, size uint64, opts WriteOpts) error {
	c := f.newChange(opts)
	defer c.count()
	c.next.size = size
	plain, err := f.readInline(ctx, k)
	if err != nil {
		return err
	}
	if n := uint64(len(plain)); off < n {
		if end >= n {
			plain = plain[:off]
		} else {
			clear(plain[off:end])
		}
		if err := f.sealInline(k, c, plain); err != nil {
			return err
		}
	}
	return c.commit(ctx)
}

// zeroSlots makes zeros of [off, end), which lies within the file. The last transaction also sets the size.
func (f *File) zeroSlots(ctx context.Context, k *keys, off, end, size uint64, opts WriteOpts) error {
	for _, p := range f.st.planes() {
		if off >= p.To {
			continue
		}
		stop := min(end, p.To)
		then := f.st.size
		if stop == end {
			then = size
		}
		if err := f.zeroPlane(ctx, k, p, off, stop, then, opts); err != nil || stop == end {
			return err
		}
		off = stop
	}
	return nil
}

// zeroPlane is zeroSlots in one plane: holes of whole blocks, images of the parts at both ends.
func (f *File) zeroPlane(ctx context.Context, k *keys, p meta.Plane, off, end, size uint64, opts WriteOpts) error {
	c := f.newChange(opts)
	defer func() { c.count() }()
	first, last, err := f.zeroEnds(ctx, k, c, p, off, end)
	if err != nil {
		return err
	}
	for first < last {
		from, _ := meta.RowOf(first)
		to, _ := meta.RowOf(last - 1)
		rows, more, err := f.rowsIn(ctx, from, to, batchRows)
		if err != nil {
			return err
		}
		stop := last
		if more {
			stop = rows[len(rows)-1].first() + meta.MapRowBlocks
		}
		if err := c.punch(ctx, p, rows, first, stop); err != nil {
			return err
		}
		if first = stop; first < last {
			if err := c.commit(ctx); err != nil {
				return err
			}
			c = f.newChange(opts)
		}
	}
	c.next.size = size
	return c.commit(ctx)
}

// zeroEnds handles the blocks that [off, end) covers in part, and returns the range of those that it covers as far as the file goes.
func (f *File) zeroEnds(ctx context.Context, k *keys, c *change, p meta.Plane, off, end uint64) (first, last uint64, err error) {
	first, last = p.End(off), p.Block(end) // off rounded up, end down
	if end == f.st.size {
		last = p.End(end)
	}
	if lo := blockcrypt.OffsetInBlock(off, p.BlockSize); lo > 0 {
		block := p.Block(off)
		hi := int(min(uint64(p.BlockSize), end-p.Start(block)))
		if err := f.zeroPart(ctx, k, c, p, block, lo, hi); err != nil {
			return 0, 0, err
		}
	}
	if hi := blockcrypt.OffsetInBlock(end, p.BlockSize); hi > 0 && last >= first && end != f.st.size {
		if err := f.zeroPart(ctx, k, c, p, last, 0, hi); err != nil {
			return 0, 0, err
		}
	}
	return first, last, nil
}

// punch releases the blocks of [first, end) of a plane; rows are all that hold entries there.
func (c *change) punch(ctx context.Context, p meta.Plane, rows []mapped, first, end uint64) error {
	n := 0
	for i := range rows {
		n += c.remove(&rows[i], first, end)
	}
	if n == 0 {
		return nil
	}
	return c.release(ctx, p, first, end)
}
