package content

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// SeekData returns the first offset >= off with data, at the granularity of blocks. It needs no key. ErrNoData if there is none.
func (f *File) SeekData(ctx context.Context, off uint64) (uint64, error) {
	return f.seek(ctx, off, true)
}

// SeekHole returns the first offset >= off in a hole; the end of the file is one. It needs no key. ErrNoData if off is not before the end.
func (f *File) SeekHole(ctx context.Context, off uint64) (uint64, error) {
	return f.seek(ctx, off, false)
}

func (f *File) seek(ctx context.Context, off uint64, data bool) (uint64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= f.st.size {
		return 0, fmt.Errorf("seek in inode %d from %d, size is %d: %w", f.ino, off, f.st.size, ErrNoData)
	}
	var at uint64
	var err error
	switch {
	case f.st.layout != meta.LayoutSlots:
		at, err = f.seekInline(ctx, off, data)
	case data:
		at, err = f.seekData(ctx, off)
	default:
		at, err = f.seekHole(ctx, off)
	}
	if err != nil {
		return 0, fmt.Errorf("seek in inode %d from %d: %w", f.ino, off, err)
	}
	return at, nil
}

// seekInline: the inline content is data, what the size has beyond it a hole.
func (f *File) seekInline(ctx context.Context, off uint64, data bool) (uint64, error) {
	var n uint64
	err := f.e.meta.View(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inline(f.ino)
		if err == nil && in != nil {
			n = uint64(in.PlainLen())
		}
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case data && off < n, !data && off >= n:
		return off, nil
	case data:
		return 0, ErrNoData
	default:
		return min(n, f.st.size), nil
	}
}

func (f *File) seekData(ctx context.Context, off uint64) (uint64, error) {
	from := blockcrypt.BlockOf(off, f.blockSize)
	row, _ := meta.RowOf(from)
	at := f.st.size
	err := f.e.meta.View(ctx, func(tx *meta.Tx) error {
		return tx.ScanMap(f.ino, row, func(row uint64, m *meta.MapRow) bool {
			for i := range m {
				if block := row*meta.MapRowBlocks + uint64(i); m[i].Present && block >= from {
					at = max(off, f.start(block))
					return false
				}
			}
			return true
		})
	})
	if err == nil && at >= f.st.size {
		err = ErrNoData
	}
	return at, err
}

func (f *File) seekHole(ctx context.Context, off uint64) (uint64, error) {
	next := blockcrypt.BlockOf(off, f.blockSize) // the first block not known to hold data
	row, _ := meta.RowOf(next)
	err := f.e.meta.View(ctx, func(tx *meta.Tx) error {
		return tx.ScanMap(f.ino, row, func(row uint64, m *meta.MapRow) bool {
			for i := range m {
				block := row*meta.MapRowBlocks + uint64(i)
				if block < next {
					continue
				}
				if block > next || !m[i].Present {
					return false
				}
				next++
			}
			return true
		})
	})
	return min(max(off, f.start(next)), f.st.size), err
}
