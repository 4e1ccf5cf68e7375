package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// resealRows is how many map rows one step of a re-encryption looks at.
const resealRows = 64

// errOlder: something is still sealed under an older epoch.
var errOlder = errors.New("sealed under an older epoch")

// steps is how a re-encryption goes on: what may be done at once (nil: anything), and who is told what was.
type steps struct {
	most func() int
	done func(bytes int) error
}

// atMost returns how many bytes the next step may have, n at most.
func (s steps) atMost(n uint64) uint64 {
	if s.most != nil {
		if most := s.most(); most > 0 {
			return min(n, uint64(most))
		}
	}
	return n
}

// NewEpoch gives a file a fresh key for everything sealed from now on, and returns its epoch.
//
// Errors: meta.ErrNotFound, ErrNotRegular; meta.ErrInvalid if meta.MaxWraps keys are in use; those of the zone's keys.
func (e *Engine) NewEpoch(ctx context.Context, ino meta.Ino) (epoch uint32, err error) {
	err = e.with(ctx, ino, func(f *File) error {
		f.rotating.Lock()
		defer f.rotating.Unlock()
		if err := f.writable(0, 0); err != nil {
			return err
		}
		epoch, err = f.renew(ctx)
		return err
	})
	return epoch, err
}

// Reencrypt seals everything in a file that is sealed under epochs before epoch, which the file has had since a NewEpoch, anew under its current one,
// as the parameters of its zone say by then, and then drops the keys of the epochs before. Readers and writers go on. It goes by steps, after each of
// which done is called with its bytes, and no lock held. most, asked before each, returns how many bytes it may have, 0 for as many as are best; nil is
// always 0. A step has a block at least, or all that is inline. Neither times nor attributes change. Where it was interrupted, by an error of done too,
// which is returned, it goes on with what is left, and where nothing is left it only drops keys.
//
// Errors: meta.ErrNotFound; those of reading and writing.
func (e *Engine) Reencrypt(ctx context.Context, ino meta.Ino, epoch uint32, most func() int, done func(bytes int) error) error {
	s := steps{most, done}
	return e.with(ctx, ino, func(f *File) error {
		if err := f.writable(0, 0); err != nil {
			return err
		}
		f.moving.Lock()
		defer f.moving.Unlock()
		if now := f.settledEpoch(); epoch > now {
			return fmt.Errorf("re-encrypt inode %d for epoch %d, its last is %d: %w", ino, epoch, now, meta.ErrInvalid)
		}
		if err := f.relocate(ctx, epoch, s); err != nil {
			return err
		}
		if err := f.resealAll(ctx, epoch, s); err != nil {
			return err
		}
		return f.retire(ctx, epoch)
	})
}

// settledEpoch returns the current epoch once nobody is about to begin another.
func (f *File) settledEpoch() uint32 {
	f.rotating.Lock()
	defer f.rotating.Unlock()
	return f.epoch.Load()
}

// Carry has op put a file into another zone, under a fresh key (meta.Store.MoveAcross): op returns the file as it is then. Who has it open goes on. The
// error is op's, or as Open's.
func (e *Engine) Carry(ctx context.Context, ino meta.Ino, op func() (*meta.Attr, error)) error {
	f, err := e.Open(ctx, ino)
	if err != nil {
		return err
	}
	return errors.Join(f.carry(op), f.Close())
}

func (f *File) carry(op func() (*meta.Attr, error)) error {
	f.rotating.Lock()
	defer f.rotating.Unlock()
	a, err := op()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.Epoch != f.epoch.Load() {
		f.uses.start(a.Epoch, 0)
		f.epoch.Store(a.Epoch)
	}
	f.zone.Store(uint64(a.Zone))
	return nil
}

// Rezoned says that files were put into another zone, without fresh keys (meta.Store.MakeZone, DissolveZone): who has them open goes on with its keys.
func (e *Engine) Rezoned(zone meta.ZoneID, files []meta.Ino) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ino := range files {
		if f := e.files[ino]; f != nil {
			f.zone.Store(uint64(zone))
		}
	}
}

// relocate ends a move that was interrupted, gives the file the parameters of its zone, and makes the move that this may need.
func (f *File) relocate(ctx context.Context, epoch uint32, s steps) error {
	if err := f.move(ctx, s); err != nil {
		return err
	}
	want, err := f.e.meta.ZoneParams(ctx, meta.ZoneID(f.zone.Load()))
	if err != nil {
		return err
	}
	n := 0
	err = f.withKeys(ctx, func(k *keys) (err error) {
		n, err = f.convert(ctx, k, epoch, want)
		return err
	})
	if err == nil && n > 0 {
		err = s.done(n)
	}
	if err != nil {
		return err
	}
	return f.move(ctx, s)
}

// with runs op with a file open.
func (e *Engine) with(ctx context.Context, ino meta.Ino, op func(f *File) error) error {
	f, err := e.Open(ctx, ino)
	if err != nil {
		return err
	}
	err = op(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("inode %d: %w", ino, err)
	}
	return nil
}

func (f *File) resealAll(ctx context.Context, epoch uint32, s steps) error {
	more := true
	for from := uint64(0); more; {
		var next uint64
		var n int
		most := int(s.atMost(maxChunk))
		err := f.withKeys(ctx, func(k *keys) (err error) {
			next, n, more, err = f.reseal(ctx, k, epoch, from, most)
			return err
		})
		if err == nil {
			err = s.done(n)
		}
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// reseal makes one step of at most so many bytes from a block on. It returns the block that the next one begins with, if there is more, and the bytes sealed.
func (f *File) reseal(ctx context.Context, k *keys, epoch uint32, from uint64, most int) (next uint64, n int, more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(k); err != nil {
		return 0, 0, false, err
	}
	c := f.newChange(WriteOpts{KeepTimes: true})
	c.same = true
	defer c.count()
	if f.st.layout != meta.LayoutSlots {
		n, err = f.resealInline(ctx, k, c, epoch)
		return 0, n, false, err
	}
	row, _ := meta.RowOf(from)
	rows, more, err := f.rowsIn(ctx, row, meta.ToEnd, resealRows)
	if err != nil {
		return 0, 0, false, err
	}
	for i := range rows {
		w := &writer{f: f, k: k, c: c, plane: f.st.planeOf(rows[i].first()), first: rows[i].first(), rows: []*meta.MapRow{&rows[i].m}}
		for x := range rows[i].m {
			block, e := rows[i].first()+uint64(x), &rows[i].m[x]
			if !e.Present || e.Epoch >= epoch || block < from {
				continue
			}
			if n > 0 && n+int(e.PlainLen) > most {
				return block, n, true, c.commit(ctx)
			}
			if err := w.reseal(ctx, block, e); err != nil {
				return 0, 0, false, err
			}
			n += int(e.PlainLen)
		}
		next = rows[i].first() + meta.MapRowBlocks
	}
	if n > 0 {
		err = c.commit(ctx)
	}
	return next, n, more, err
}

// reseal seals a block under the current epoch, as an image: its slot is referred to.
func (w *writer) reseal(ctx context.Context, block uint64, e *meta.Entry) error {
	loan, buf := borrow(int(e.PlainLen))
	defer loan.giveBack()
	if err := w.f.readBlock(ctx, w.k, w.plane, block, buf); err != nil {
		return err
	}
	return w.sealImage(block, buf)
}

func (f *File) resealInline(ctx context.Context, k *keys, c *change, epoch uint32) (int, error) {
	in, err := f.inlineEpoch(ctx)
	if err != nil || in == 0 || in >= epoch {
		return 0, err
	}
	plain, err := f.readInline(ctx, k)
	if err != nil {
		return 0, err
	}
	if err := f.sealInline(k, c, plain); err != nil {
		return 0, err
	}
	return len(plain), c.commit(ctx)
}

// inlineEpoch returns the epoch of the inline content, 0 if there is none.
func (f *File) inlineEpoch(ctx context.Context) (epoch uint32, err error) {
	err = f.e.meta.View(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inline(f.ino)
		if epoch = 0; in != nil {
			epoch = in.Epoch
		}
		return err
	})
	return epoch, err
}

// retire drops the keys of epochs before epoch, when nothing is sealed under them any more. That is looked for once more: what is dropped is lost.
// Since epoch began nothing was sealed under an older one, so what was not found does not come back.
func (f *File) retire(ctx context.Context, epoch uint32) error {
	f.rotating.Lock()
	defer f.rotating.Unlock()
	if err := f.noneBefore(ctx, epoch); err != nil {
		return err
	}
	var dropped []uint32
	_, err := f.e.meta.Update(ctx, func(tx *meta.Tx) error {
		dropped = dropped[:0]
		in, err := tx.Inline(f.ino)
		if err == nil && in != nil && in.Epoch < epoch {
			err = errOlder
		}
		if err != nil {
			return err
		}
		a, err := tx.Attr(f.ino)
		if err != nil {
			return err
		}
		for _, w := range append([]meta.Wrap(nil), a.Wraps...) {
			if w.Epoch >= epoch || w.Epoch == a.Epoch {
				continue
			}
			if err := f.e.meta.DropEpoch(tx, a, w.Epoch); err != nil {
				return err
			}
			dropped = append(dropped, w.Epoch)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("drop keys before epoch %d: %w", epoch, err)
	}
	for _, old := range dropped {
		for size := blockcrypt.MinBlockSize; size <= blockcrypt.MaxBlockSize; size *= 2 {
			f.e.ciphers.remove(cipherKey{f.ino, old, size})
		}
	}
	return nil
}

// noneBefore returns an error if a block is sealed under an epoch before epoch.
func (f *File) noneBefore(ctx context.Context, epoch uint32) error {
	var left error
	err := f.e.meta.View(ctx, func(tx *meta.Tx) error {
		left = nil
		return tx.ScanMap(f.ino, 0, func(row uint64, m *meta.MapRow) bool {
			for i := range m {
				if m[i].Present && m[i].Epoch < epoch {
					left = fmt.Errorf("block %d, epoch %d: %w", row*meta.MapRowBlocks+uint64(i), m[i].Epoch, errOlder)
				}
			}
			return left == nil
		})
	})
	if err == nil {
		err = left
	}
	return err
}
