package content

import (
	"context"
	"errors"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

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

// errDisturbed: the bytes that were to be moved were changed meanwhile.
var errDisturbed = errors.New("changed while it was moved")

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
