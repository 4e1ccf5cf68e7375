package content

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// Bounds of one step of a move, in bytes: powers of two, so that steps end where blocks of any size do. Each step costs a flush.
const (
	leastStep = maxChunk
	mostStep  = 16 << 20
)

// movedByImage is up to which size, in bytes, files move by images: writing these twice is cheaper than making a new object durable.
const movedByImage = 256 << 10

// mover moves a file from its former object to the present one, from the end to the start: what is appended meanwhile is in its place already, so the
// work is bounded by what there was. It belongs to one goroutine, and a file has one at a time.
//
// A step takes the last bytes before the boundary. Beside readers and writers it reads them, seals them, writes them to the present object, where
// nothing refers to those slots yet, and makes them durable. Then, with the File locked, one transaction puts their entries, takes away those in the
// former map, and moves the boundary. If somebody changed the bytes meanwhile, or there is no room below for both, the step is made with the File
// locked, by images.
type mover struct {
	f       *File
	steps   steps
	step    uint64 // bytes of the next one
	slow    bool   // the next one goes by images
	plain   []byte
	sealed  []byte
	blocks  []movedBlock
	scratch []blockcrypt.Sealed
}

// movedBlock is a block of the present plane.
type movedBlock struct {
	block uint64
	plain []byte // part of mover.plain
	entry meta.Entry
}

// move moves all that is left.
func (f *File) move(ctx context.Context, s steps) error {
	m := &mover{f: f, steps: s, step: f.e.atOnce}
	for {
		n, more, err := m.next(ctx)
		if err != nil {
			return fmt.Errorf("move to another object: %w", err)
		}
		if !more {
			return nil
		}
		if err := s.done(n); err != nil {
			return err
		}
	}
}

// next makes one step. more is false if there was nothing to move.
func (m *mover) next(ctx context.Context) (n int, more bool, err error) {
	e := m.f.e
	m.step = powerOfTwo(m.steps.atMost(m.step))
	if err := e.makeRoom(ctx, m.step); err != nil {
		return 0, false, err
	}
	if m.slow || m.f.boundary() <= e.byImage || !e.roomToMove(m.step) {
		m.slow = false
		return m.byImages(ctx)
	}
	n, more, err = m.direct(ctx)
	switch {
	case errors.Is(err, errDisturbed):
		m.step = min(m.step, leastStep)
		return m.byImages(ctx)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		m.slow = true
		return 0, true, nil
	case err == nil:
		m.step = min(2*m.step, e.atOnce)
	}
	return n, more, err
}

// boundary returns how much of the file, from its start, was not moved yet.
func (f *File) boundary() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return min(f.st.former.End, f.st.size)
}

// byImages makes a step with the File locked.
func (m *mover) byImages(ctx context.Context) (n int, more bool, err error) {
	f := m.f
	err = f.withKeys(ctx, func(k *keys) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n, more = 0, f.st.moving(); !more {
			return nil
		}
		if err := f.ready(k); err != nil {
			return err
		}
		s, err := m.find(ctx, min(m.step, leastStep))
		if err != nil {
			return err
		}
		c := f.newChange(WriteOpts{KeepTimes: true})
		c.same = true
		defer c.count()
		w := &writer{f: f, k: k, c: c, plane: f.st.present()}
		if err := m.read(ctx, k, s); err != nil {
			return err
		}
		if len(m.blocks) > 0 {
			w.first = m.blocks[0].block
			if w.rows, err = f.mapRows(ctx, w.first, m.blocks[len(m.blocks)-1].block+1, nil); err != nil {
				return err
			}
		}
		for i := range m.blocks {
			if err := w.sealImage(m.blocks[i].block, m.blocks[i].plain); err != nil {
				return err
			}
			n += len(m.blocks[i].plain)
		}
		f.e.moved.Add(s.hi - s.lo)
		return c.moveBoundary(ctx, s.lo)
	})
	return n, more, err
}

// moveBoundary commits a change that holds the data from lo up to the boundary in the present plane.
func (c *change) moveBoundary(ctx context.Context, lo uint64) error {
	f, p := c.f, c.f.st.before()
	first, end := p.Block(lo), p.End(p.To)
	if first < end {
		from, _ := meta.RowOf(first)
		to, _ := meta.RowOf(end - 1)
		rows, more, err := f.rowsIn(ctx, from, to, batchRows)
		if err != nil {
			return err
		}
		if more {
			return fmt.Errorf("more than %d rows before the boundary: %w", batchRows, meta.ErrCorrupt)
		}
		for i := range rows {
			c.remove(&rows[i], first, p.Limit())
		}
	}
	c.next.former.End = lo
	var err error
	if lo == 0 {
		c.next.former = meta.Former{}
		err = c.releaseObject(ctx, p)
	} else {
		err = c.release(ctx, p, first, p.Limit())
	}
	if err == nil {
		err = c.commit(ctx)
	}
	if err == nil && lo == 0 {
		f.res.left()
	}
	return err
}
