package content

import (
	"context"
	"fmt"

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
	for _, p := range f.st.planes() {
		at, found, err := f.seekDataIn(ctx, p, max(off, p.From))
		if err != nil {
			return 0, err
		}
		if found && at < f.st.size {
			return at, nil
		}
	}
	return 0, ErrNoData
}

// seekDataIn is seekData in one plane.
func (f *File) seekDataIn(ctx context.Context, p meta.Plane, off uint64) (at uint64, found bool, err error) {
	if off >= p.To {
		return 0, false, nil
	}
	from := p.Block(off)
	row, _ := meta.RowOf(from)
	err = f.e.meta.View(ctx, func(tx *meta.Tx) error {
		return tx.ScanMap(f.ino, row, func(row uint64, m *meta.MapRow) bool {
			if !p.Has(row * meta.MapRowBlocks) {
				return false
			}
			for i := range m {
				if block := row*meta.MapRowBlocks + uint64(i); m[i].Present && block >= from {
					at, found = max(off, p.Start(block)), true
					return false
				}
			}
			return true
		})
	})
	return at, found, err
}

func (f *File) seekHole(ctx context.Context, off uint64) (uint64, error) {
	for _, p := range f.st.planes() {
		if off >= p.To {
			continue
		}
		at, err := f.seekHoleIn(ctx, p, off)
		if err != nil {
			return 0, err
		}
		if off = at; off < p.To {
			break
		}
	}
	return min(off, f.st.size), nil
}

// seekHoleIn returns the first offset from off on without data in a plane, or its end.
func (f *File) seekHoleIn(ctx context.Context, p meta.Plane, off uint64) (uint64, error) {
	next := p.Block(off) // the first block not known to hold data
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
	return min(max(off, p.Start(next)), p.To), err
}
