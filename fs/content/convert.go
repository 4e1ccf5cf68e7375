package content

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// movedWhole is from what size on, in bytes allocated, a file that keeps its block size is re-encrypted by a move to another object. A smaller one is
// cheaper to seal anew where it is: nothing has to be flushed for it.
const movedWhole = 1 << 20

// convert gives a file other parameters, and begins a move where its blocks have to lie elsewhere for that, or to seal those older than epoch anew.
// What is stored otherwise is sealed anew in the same transaction if it is inline, or small enough to be.
func (f *File) convert(ctx context.Context, k *keys, epoch uint32, want meta.Params) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.st.moving() {
		return 0, nil // since we looked: the next re-encryption's
	}
	if err := f.ready(k); err != nil {
		return 0, err
	}
	c := f.newChange(WriteOpts{KeepTimes: true})
	c.same = true
	c.next.params = want
	defer c.count()
	switch {
	case f.st.layout != meta.LayoutSlots && want == f.st.params:
		return 0, nil
	case f.st.layout != meta.LayoutSlots:
		return f.convertInline(ctx, k, c)
	case f.st.size <= uint64(want.Inline):
		return f.toInline(ctx, k, c)
	case want.BlockSize != f.st.params.BlockSize, f.st.allocated >= movedWhole && f.e.roomToMove(0) && f.noneBefore(ctx, epoch) != nil:
		return 0, c.beginMove(ctx)
	case want != f.st.params:
		return 0, c.commit(ctx)
	}
	return 0, nil
}

// beginMove makes all of the file the former object's.
func (c *change) beginMove(ctx context.Context) error {
	st := &c.f.st
	whole := uint64(max(st.params.BlockSize, c.next.params.BlockSize))
	c.next.former = meta.Former{End: (st.size + whole - 1) / whole * whole, Serial: st.serial, BlockSize: st.params.BlockSize}
	c.next.serial, c.next.upper = st.serial+1, !st.upper
	return c.commit(ctx)
}

// convertInline seals inline content under the parameters of a change, in blocks if it is too large to be inline.
func (f *File) convertInline(ctx context.Context, k *keys, c *change) (int, error) {
	plain, err := f.readInline(ctx, k)
	if err != nil {
		return 0, err
	}
	if f.st.size <= uint64(c.next.params.Inline) || len(plain) == 0 {
		if len(plain) > 0 {
			err = f.sealInline(k, c, plain)
		}
		if err == nil {
			err = c.commit(ctx)
		}
		return len(plain), err
	}
	f.leaveInline(c)
	w := &writer{f: f, k: k, c: c, plane: c.next.present(), old: plain}
	w.first = w.plane.Base
	if err := w.keepOld(w.first); err != nil {
		return 0, err
	}
	if err := c.commit(ctx); err != nil {
		return 0, err
	}
	f.native = true
	return len(plain), nil
}

// toInline puts the content of a file's blocks, which is small enough, into its row.
func (f *File) toInline(ctx context.Context, k *keys, c *change) (int, error) {
	plain := make([]byte, f.st.size)
	if err := f.readSlots(ctx, k, plain, 0); err != nil {
		return 0, err
	}
	p := f.st.present()
	first, _ := meta.RowOf(p.Base)
	last, _ := meta.RowOf(p.End(f.st.size))
	rows, _, err := f.rowsIn(ctx, first, last, batchRows)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		c.remove(&rows[i], p.Base, p.Limit())
	}
	if err := f.sealInline(k, c, plain); err != nil {
		return 0, err
	}
	return len(plain), c.leaveSlots(ctx)
}

// Room that is left free below when a file moves by direct writes: twice what package fs keeps.
const (
	roomLeft      = 512 << 20
	roomLeftShare = 10 // one part in this many of a small filesystem
)

// roomToMove tells whether n bytes more may be written to new objects. Where they may not, images do: the journal keeps room for these.
func (e *Engine) roomToMove(n uint64) bool {
	space, err := e.objects.Space()
	return err == nil && space.Avail > n+min(roomLeft, space.Total/roomLeftShare)
}

// makeRoom makes a checkpoint where so much was moved since the last one that what the former objects hold is wanted back.
func (e *Engine) makeRoom(ctx context.Context, next uint64) error {
	moved := e.moved.Load()
	if moved == 0 || moved < leastMoved && e.roomToMove(next) {
		return nil
	}
	if space, err := e.objects.Space(); err != nil || moved < space.Avail/4 && e.roomToMove(next) {
		return err
	}
	began := time.Now()
	if err := e.checkpoint(ctx); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	e.log.Debug("checkpoint to make room for a move", "moved", moved, "took", time.Since(began))
	return nil
}

// leastMoved is how much is moved before room is made for more, unless it is short.
const leastMoved = 64 << 20
