package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"syscall"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
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

// watch tells whether map rows [from, to] are changed while the File is not locked.
type watch struct {
	from, to uint64
	on, hit  bool
}

// note comes with every change that is committed.
func (w *watch) note(c *change) {
	if !w.on {
		return
	}
	for _, r := range c.rows {
		w.hit = w.hit || r.row >= w.from && r.row <= w.to
	}
	w.hit = w.hit || c.noObject || c.next.former != c.f.st.former
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

// errDisturbed: the bytes that were to be moved were changed meanwhile.
var errDisturbed = errors.New("changed while it was moved")

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

// direct makes a step beside readers and writers. errDisturbed if it has to be made otherwise.
func (m *mover) direct(ctx context.Context) (n int, more bool, err error) {
	f := m.f
	err = f.withKeys(ctx, func(k *keys) error {
		n, more = 0, true
		s, to, obj, err := m.begin(ctx, k)
		if obj == nil || err != nil {
			more = err != nil || s.hi > 0
			return err
		}
		defer obj.Release()
		defer m.end()
		epoch := f.epoch.Load()
		if err := m.readBeside(ctx, k, s); err != nil {
			return err
		}
		if err := m.write(k, to, epoch, obj); err != nil {
			return m.abandon(ctx, obj, to, s, err)
		}
		if n, err = m.commit(ctx, s, epoch); err != nil {
			return m.abandon(ctx, obj, to, s, err)
		}
		f.e.moved.Add(s.hi - s.lo)
		return nil
	})
	return n, more, err
}

// begin finds the next stretch and begins to watch it. Without any it ends the move; there is no object then.
func (m *mover) begin(ctx context.Context, k *keys) (s stretch, to meta.Plane, obj *object.File, err error) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.st.moving() {
		return s, to, nil, nil
	}
	if err := f.ready(k); err != nil {
		return s, to, nil, err
	}
	if s, err = m.find(ctx, m.step); err != nil {
		return s, to, nil, err
	}
	if s.hi == 0 {
		c := f.newChange(WriteOpts{KeepTimes: true})
		c.same = true
		return s, to, nil, c.moveBoundary(ctx, 0)
	}
	to = f.st.present()
	uses := (s.hi - s.lo) / uint64(to.BlockSize)
	if f.uses.left(f.e.maxUses) < uses+epochReserve { // a smaller step begins an epoch
		return s, to, nil, errDisturbed
	}
	from := f.st.before()
	first, _ := meta.RowOf(from.Block(s.lo))
	last, _ := meta.RowOf(from.End(from.To))
	if obj, err = f.e.objects.Create(f.e.object(f.ino, to.Serial)); err != nil {
		return s, to, nil, err
	}
	f.watch = watch{from: first, to: last, on: true}
	f.uses.take(uses)
	return s, to, obj, nil
}

// end ends the watch.
func (m *mover) end() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.watch = watch{}
}

// readBeside is read, a part under each lock, so that nobody waits for long.
func (m *mover) readBeside(ctx context.Context, k *keys, s stretch) error {
	m.prepare(s)
	for at := s.lo; at < s.hi; at += maxChunk {
		if err := m.readPart(ctx, k, s, at); err != nil {
			return err
		}
	}
	m.f.mu.RLock()
	defer m.f.mu.RUnlock()
	if m.f.watch.hit {
		return errDisturbed
	}
	return m.cut(ctx, s)
}

func (m *mover) readPart(ctx context.Context, k *keys, s stretch, at uint64) error {
	m.f.mu.RLock()
	defer m.f.mu.RUnlock()
	if m.f.watch.hit {
		return errDisturbed
	}
	end := min(at+maxChunk, s.hi)
	return m.f.readPlane(ctx, k, m.f.st.before(), m.plain[at-s.lo:end-s.lo], at)
}

// write seals the blocks and writes them to their slots, durably. The File is not locked: nothing refers to the slots, and nobody else writes to them.
func (m *mover) write(k *keys, to meta.Plane, epoch uint32, obj *object.File) error {
	cipher, err := k.get(epoch, to.BlockSize)
	if err != nil {
		return err
	}
	if len(m.blocks) == 0 {
		return nil
	}
	params := m.f.paramsNow()
	for i := 0; i < len(m.blocks); {
		if params.Codec != meta.CodecNone {
			coded, err := m.writeCoded(cipher, params, to, epoch, obj, i)
			if err != nil {
				return err
			}
			if coded {
				i++
				continue
			}
		}
		n := m.run(to, i, params.Codec == meta.CodecNone)
		if err := m.writeRun(cipher, to, epoch, obj, m.blocks[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return obj.Datasync()
}

// run returns how many blocks from i on lie side by side and full, the last one excepted, as far as they are sealed at once.
func (m *mover) run(to meta.Plane, i int, many bool) int {
	n := 1
	for many && i+n < len(m.blocks) && (n+1)*to.BlockSize <= maxChunk && m.blocks[i+n].block == m.blocks[i].block+uint64(n) && len(m.blocks[i+n-1].plain) == to.BlockSize {
		n++
	}
	return n
}

func (m *mover) writeRun(cipher *blockcrypt.BlockCipher, to meta.Plane, epoch uint32, obj *object.File, run []movedBlock) error {
	last := run[len(run)-1].plain
	length := (len(run)-1)*to.BlockSize + len(last)
	plain, sealed := run[0].plain[:length], m.sealed[:length]
	out, err := cipher.SealRun(sealed, plain, to.Index(run[0].block), m.scratch[:0])
	if err != nil {
		return err
	}
	m.scratch = out
	for i := range run {
		run[i].entry = entryOf(out[i], epoch, len(run[i].plain))
	}
	return obj.WriteAt(sealed, to.Slot(run[0].block))
}

// writeCoded writes one block compressed, if that saves room.
func (m *mover) writeCoded(cipher *blockcrypt.BlockCipher, params meta.Params, to meta.Plane, epoch uint32, obj *object.File, i int) (bool, error) {
	b := &m.blocks[i]
	loan, coded, err := m.f.compressBeside(params, b.plain)
	defer loan.giveBack()
	if err != nil || coded == nil {
		return false, err
	}
	sealed := m.sealed[:len(coded)]
	out, err := cipher.SealCoded(sealed, coded, to.Index(b.block), blockcrypt.Coding{Codec: uint8(params.Codec), Plain: uint32(len(b.plain))})
	if err != nil {
		return false, err
	}
	b.entry = entryOf(out, epoch, len(b.plain))
	b.entry.Codec, b.entry.StoredLen = params.Codec, uint32(len(coded))
	return true, obj.WriteAt(sealed, to.Slot(b.block))
}

// commit puts what was written into the map, unless somebody has changed it meanwhile.
func (m *mover) commit(ctx context.Context, s stretch, epoch uint32) (n int, err error) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch.hit || f.epoch.Load() != epoch {
		return 0, errDisturbed
	}
	c := f.newChange(WriteOpts{KeepTimes: true})
	c.same, c.counted = true, true
	if len(m.blocks) > 0 {
		first := m.blocks[0].block
		rows, err := f.mapRows(ctx, first, m.blocks[len(m.blocks)-1].block+1, nil)
		if err != nil {
			return 0, err
		}
		base, _ := meta.RowOf(first)
		for i := range m.blocks {
			b := &m.blocks[i]
			row, _ := meta.RowOf(b.block)
			c.set(b.block, rows[row-base], b.entry)
			n += len(b.plain)
		}
		for i := range c.rows {
			c.durable = append(c.durable, c.rows[i].row)
		}
	}
	f.watch.on = false // our own change is no disturbance
	return n, c.moveBoundary(ctx, s.lo)
}

// abandon returns err, because of which a step was not committed, and frees what was written in vain. There is no record of it, as nothing ever referred
// to it: where the file is cut then, nobody would look for it.
func (m *mover) abandon(ctx context.Context, obj *object.File, to meta.Plane, s stretch, err error) error {
	if errors.Is(err, kv.ErrFailed) { // it may turn out to have been
		return err
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if st := &m.f.st; !st.moving() || st.serial != to.Serial || s.hi > st.former.End { // the object is garbage
		return err
	}
	m.f.watch = watch{}
	ctx = context.WithoutCancel(ctx) // err may be that the work is to stop
	return errors.Join(err, obj.Punch(to.Slot(to.Block(s.lo)), int64(s.hi-s.lo)), m.f.cutLeftover(ctx, to.Serial))
}
