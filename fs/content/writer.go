package content

import (
	"context"
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// piece is one block of a write.
type piece struct {
	plain []byte // all of its new content
	image bool   // it goes into the journal
}

// writer is the work space of one writeSlots.
type writer struct {
	f     *File
	k     *keys
	c     *change
	plane meta.Plane
	p     []byte
	off   uint64
	first uint64
	old   []byte // what was inline, if the file leaves the inline row
	ahead *ahead // what was sealed of it already; nil: nothing
	rows  []*meta.MapRow
	loans []pooled
	next  compressed // what was tried last

	rowSpace [maxBlocks/meta.MapRowBlocks + 2]*meta.MapRow
	pieces   [maxBlocks]piece
	sealed   [maxBlocks]blockcrypt.Sealed
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// lay is writeSlots but for committing: it adds the blocks to the change, and writes those that go to their slots at once. Called with mu held for writing.
func (f *File) lay(ctx context.Context, k *keys, c *change, plane meta.Plane, p []byte, off uint64, old []byte) (err error) {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	first, end := plane.Range(off, len(p))
	w.f, w.k, w.c, w.plane, w.p, w.off, w.first, w.old = f, k, c, plane, p, off, first, old
	defer w.drop()
	if a := c.ahead; a != nil && a.plane == plane && a.epoch == c.epoch && c.next.params.Codec == meta.CodecNone {
		w.ahead = a
	}
	if w.rows, err = f.rowsFor(ctx, c, first, end, w.rowSpace[:0]); err != nil {
		return err
	}
	pieces := w.pieces[:end-first]
	small := len(p) <= smallWrite && (f.startsInJournal(c.next.size) || f.expectsSync(c.next.size))
	for i := range pieces {
		if pieces[i], err = w.piece(ctx, first+uint64(i), small); err != nil {
			return err
		}
	}
	if err := w.keepOld(end); err != nil {
		return err
	}
	return w.place(pieces)
}

// rowsFor returns the committed rows of [first, end): none if the file is about to leave the inline row.
func (f *File) rowsFor(ctx context.Context, c *change, first, end uint64, rows []*meta.MapRow) ([]*meta.MapRow, error) {
	if f.st.layout == meta.LayoutSlots {
		return f.mapRows(ctx, first, end, rows)
	}
	from, _ := meta.RowOf(first)
	to, _ := meta.RowOf(end - 1)
	for row := from; row <= to; row++ {
		rows = append(rows, &noEntries)
	}
	return rows, nil
}

// drop lets go of what must not stay in the pool.
func (w *writer) drop() {
	for i := range w.loans {
		w.loans[i].giveBack()
		w.loans[i] = pooled{}
	}
	clear(w.rowSpace[:])
	clear(w.pieces[:])
	w.next.drop()
	w.f, w.k, w.c, w.p, w.old, w.ahead, w.rows, w.loans = nil, nil, nil, nil, nil, nil, nil, w.loans[:0]
}

// piece works out the new content of a block and where it goes.
func (w *writer) piece(ctx context.Context, block uint64, small bool) (piece, error) {
	f := w.f
	e := entryIn(w.rows, w.first, block)
	start := w.plane.Start(block)
	lo, hi := max(start, w.off), min(start+uint64(w.plane.BlockSize), w.off+uint64(len(w.p)))
	src := w.p[lo-w.off : hi-w.off]
	inline := w.inlineOf(block)
	kept := max(int(e.PlainLen), len(inline))
	out := piece{plain: src, image: small || e.Present || len(inline) > 0 || f.st.layout == meta.LayoutSlots && !f.virgin(block)}
	if lo == start && int(hi-start) >= kept {
		return out, nil
	}
	n := max(kept, int(hi-start))
	loan, buf := borrow(n)
	w.loans = append(w.loans, loan)
	clear(buf)
	copy(buf, inline)
	if e.Present {
		if err := f.readBlock(ctx, w.k, w.plane, block, buf[:e.PlainLen]); err != nil {
			return out, err
		}
	}
	copy(buf[lo-start:], src)
	out.plain = buf
	return out, nil
}

// inlineOf returns the part of the old inline content that lies in block.
func (w *writer) inlineOf(block uint64) []byte {
	start := w.plane.Start(block)
	if start >= uint64(len(w.old)) {
		return nil
	}
	return w.old[start:min(start+uint64(w.plane.BlockSize), uint64(len(w.old)))]
}

// keepOld seals the inline content outside of the write, as images: it may have been synced, so it must not depend on a slot that is not.
func (w *writer) keepOld(end uint64) error {
	for block := w.plane.Base; len(w.inlineOf(block)) > 0; block++ {
		if block >= w.first && block < end {
			continue
		}
		if err := w.sealImage(block, w.inlineOf(block)); err != nil {
			return err
		}
	}
	return nil
}

// base returns the committed row of a block, nil if it is not among those that were read: then it has no entries.
func (w *writer) base(block uint64) *meta.MapRow {
	from, _ := meta.RowOf(w.first)
	row, _ := meta.RowOf(block)
	if row < from || row-from >= uint64(len(w.rows)) {
		return nil
	}
	return w.rows[row-from]
}
