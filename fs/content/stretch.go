package content

import (
	"bytes"
	"context"
	"math/bits"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// stretch is what one step moves: [lo, hi) of the file; there is no data from hi up to the boundary.
type stretch struct{ lo, hi uint64 }

// powerOfTwo returns the largest one that is n at most; n is 1 or more.
func powerOfTwo(n uint64) uint64 { return 1 << (bits.Len64(n) - 1) }

// find returns the next stretch of at most size bytes, a power of two, or one block of either plane if these are larger. Called with mu held.
func (m *mover) find(ctx context.Context, size uint64) (stretch, error) {
	hi, err := m.f.lastData(ctx, m.f.st.before())
	if err != nil || hi == 0 {
		return stretch{}, err
	}
	whole := uint64(max(m.f.st.params.BlockSize, m.f.st.former.BlockSize))
	hi = (hi + whole - 1) / whole * whole
	size = max(size, whole)
	return stretch{lo: (hi - 1) / size * size, hi: hi}, nil
}

// lastData returns the offset behind the last block of a plane, 0 if it has none. Called with mu held.
func (f *File) lastData(ctx context.Context, p meta.Plane) (uint64, error) {
	bottom, _ := meta.RowOf(p.Base)
	top, _ := meta.RowOf(p.End(p.To))
	for window := uint64(1); ; {
		low := bottom
		if top-bottom >= window {
			low = top - window + 1
		}
		rows, more, err := f.rowsIn(ctx, low, top, batchRows)
		switch {
		case err != nil:
			return 0, err
		case more:
			window = max(window/4, 1)
			continue
		case len(rows) > 0:
			r := &rows[len(rows)-1]
			for i := len(r.m) - 1; i >= 0; i-- {
				if r.m[i].Present {
					return p.Start(r.first() + uint64(i) + 1), nil
				}
			}
		}
		if low == bottom {
			return 0, nil
		}
		top, window = low-1, 4*window
	}
}

// read fills in the blocks of the present plane that hold the data of a stretch. Called with mu held.
func (m *mover) read(ctx context.Context, k *keys, s stretch) error {
	m.prepare(s)
	if s.hi == 0 {
		return nil
	}
	plain := m.plain[:s.hi-s.lo]
	if err := m.f.readPlane(ctx, k, m.f.st.before(), plain, s.lo); err != nil {
		return err
	}
	return m.cut(ctx, s)
}

// prepare makes the buffers large enough and empties the list of blocks.
func (m *mover) prepare(s stretch) {
	m.blocks = m.blocks[:0]
	if n := int(s.hi - s.lo); len(m.plain) < n {
		m.plain, m.sealed = blockcrypt.NewBuffer(n), blockcrypt.NewBuffer(min(n, maxChunk))
	}
}

// cut lists the blocks of the present plane that hold what was read of a stretch: as long as the data in them, and none where there was a hole.
// Called with mu held.
func (m *mover) cut(ctx context.Context, s stretch) error {
	from, to := m.f.st.before(), m.f.st.present()
	first, end := from.Block(s.lo), from.End(s.hi)
	rows, err := m.f.mapRows(ctx, first, end, nil)
	if err != nil {
		return err
	}
	for block := first; block < end; block++ {
		e := entryIn(rows, first, block)
		if !e.Present {
			continue
		}
		at := from.Start(block)
		for b := to.Block(at); b < to.End(at+uint64(e.PlainLen)); b++ {
			m.add(to, b, min(at+uint64(e.PlainLen), to.Start(b)+uint64(to.BlockSize))-to.Start(b), s.lo)
		}
	}
	if to.BlockSize < from.BlockSize {
		m.dropZeros()
	}
	return nil
}

// add says that a block has n bytes at least.
func (m *mover) add(p meta.Plane, block, n, lo uint64) {
	at := p.Start(block) - lo
	if last := len(m.blocks) - 1; last >= 0 && m.blocks[last].block == block {
		m.blocks[last].plain = m.plain[at : at+n]
		return
	}
	m.blocks = append(m.blocks, movedBlock{block: block, plain: m.plain[at : at+n]})
}

// dropZeros makes holes of blocks that hold zeros only: larger blocks had them filled.
func (m *mover) dropZeros() {
	kept := m.blocks[:0]
	for _, b := range m.blocks {
		if len(bytes.TrimLeft(b.plain, "\x00")) > 0 {
			kept = append(kept, b)
		}
	}
	m.blocks = kept
}
