package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// garbageBatch is how many records of garbage one transaction deletes.
const garbageBatch = 1000

// listGarbage returns all records. Those that a checkpoint begun afterwards covers may be carried out when it is done.
func (e *Engine) listGarbage(ctx context.Context) (list []meta.Garbage, err error) {
	err = e.meta.View(ctx, func(tx *meta.Tx) error {
		return tx.ScanGarbage(meta.Garbage{}, func(g meta.Garbage) bool {
			list = append(list, g)
			return true
		})
	})
	return list, err
}

// collect carries out records and deletes them. One that fails stays for the next checkpoint; the first error is returned.
func (e *Engine) collect(ctx context.Context, list []meta.Garbage) error {
	var first error
	var done []meta.Garbage
	for _, g := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		if g.Op == meta.GarbageObject {
			if err = e.objects.Remove(e.object(g.Ino, g.Serial)); err == nil {
				done = append(done, g)
			}
		} else {
			err = e.punch(ctx, g)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("destroy garbage of inode %d: %w", g.Ino, err)
		}
		if len(done) == garbageBatch {
			if err := e.forget(ctx, done); err != nil {
				return err
			}
			done = done[:0]
		}
	}
	if err := e.forget(ctx, done); err != nil {
		return err
	}
	return first
}

// forget deletes records of removed objects.
func (e *Engine) forget(ctx context.Context, done []meta.Garbage) error {
	if len(done) == 0 {
		return nil
	}
	_, err := e.meta.Update(ctx, func(tx *meta.Tx) error {
		for _, g := range done {
			if err := tx.DeleteGarbage(g); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget garbage: %w", err)
	}
	return nil
}

// punch frees the slots of a record that are not in use again, and deletes it. The File is locked meanwhile, so that no slot comes into use.
func (e *Engine) punch(ctx context.Context, g meta.Garbage) error {
	f, err := e.Open(ctx, g.Ino)
	if isGone(err) {
		return e.forget(ctx, []meta.Garbage{g}) // the object has a record of its own
	}
	if err != nil {
		return err
	}
	err = f.punchGarbage(ctx, g)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (f *File) punchGarbage(ctx context.Context, g meta.Garbage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.st.planeWith(g.Serial)
	if ok {
		obj, err := f.e.objects.Get(f.e.object(f.ino, g.Serial))
		if err == nil {
			err = f.punchUnmapped(ctx, obj, p, g)
			obj.Release()
		}
		if err != nil && !errors.Is(err, object.ErrMissing) {
			return err
		}
	}
	_, err := f.e.meta.Update(ctx, func(tx *meta.Tx) error {
		now, err := garbageLike(tx, g)
		if err != nil || now != g || ok && f.res.isReleased(p.Base+g.First) { // put again, perhaps for a larger range: not covered yet
			return err
		}
		return tx.DeleteGarbage(g)
	})
	if err != nil {
		return err
	}
	return f.cutLeftover(ctx, g.Serial)
}

// cutLeftover cuts off what a crash may have left behind the end of the object, which a sweep passes over while there is garbage. If there is none
// any more, no older state reaches behind the end. Called with mu held for writing.
func (f *File) cutLeftover(ctx context.Context, serial uint64) error {
	p, ok := f.st.planeWith(serial)
	if !ok {
		return nil
	}
	if due, err := f.e.hasGarbage(ctx, f.ino, serial); due || err != nil {
		return err
	}
	obj, err := f.e.objects.Get(f.e.object(f.ino, serial))
	if errors.Is(err, object.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	defer obj.Release()
	return obj.Cut(f.endOf(p))
}

// endOf returns where the object of a plane ends: at its start while there is nothing in the plane, nor on the way into it. Called with mu held.
func (f *File) endOf(p meta.Plane) int64 {
	if f.st.size <= p.From && !f.watch.on {
		return 0
	}
	return p.Slot(p.End(min(f.st.size, p.To)))
}

// garbageLike returns the record with the key of g, or the zero record.
func garbageLike(tx *meta.Tx, g meta.Garbage) (now meta.Garbage, err error) {
	before := meta.Garbage{Ino: g.Ino, Serial: g.Serial, Op: meta.GarbageObject}
	if g.First > 0 {
		before.Op, before.First = meta.GarbagePunch, g.First-1
	}
	err = tx.ScanGarbage(before, func(next meta.Garbage) bool {
		if next.Ino == g.Ino && next.Serial == g.Serial && next.Op == g.Op && next.First == g.First {
			now = next
		}
		return false
	})
	return now, err
}

// punchUnmapped frees what lies in the record's range without an entry, but for what was released after the checkpoint that covers the record began:
// such a slot may have come into use since, and been synced, so that a crash brings its entry back. It has a record of its own. Called with mu held for
// writing.
func (f *File) punchUnmapped(ctx context.Context, obj *object.File, p meta.Plane, g meta.Garbage) error {
	first, limit := p.Base+g.First, p.End(min(f.st.size, p.To)) // no entries from limit on
	end := limit
	if g.Count != meta.ToEnd {
		end = min(end, first+g.Count)
	}
	if err := f.punchHoles(ctx, obj, p, first, end); err != nil {
		return err
	}
	if g.Count != meta.ToEnd && first+g.Count <= limit {
		return nil
	}
	// What is behind the end was either released long ago, or is all released again by the latest cut.
	tail := f.res.unreleased(max(first, limit), p.Limit())
	if n := len(tail); n > 0 && tail[n-1].end == p.Limit() {
		return obj.Cut(p.Slot(tail[n-1].first))
	}
	return nil
}

// punchHoles frees the slots of [first, end) between those that have entries, and what lies behind the ciphertext in those that came into use
// again.
func (f *File) punchHoles(ctx context.Context, obj *object.File, p meta.Plane, first, end uint64) error {
	for first < end {
		from, _ := meta.RowOf(first)
		to, _ := meta.RowOf(end - 1)
		rows, more, err := f.rowsIn(ctx, from, to, batchRows)
		if err != nil {
			return err
		}
		stop := end
		if more {
			stop = rows[len(rows)-1].first() + meta.MapRowBlocks
		}
		for i := range rows {
			for x := range rows[i].m {
				block := rows[i].first() + uint64(x)
				if !rows[i].m[x].Present || block < first || block >= stop {
					continue
				}
				if err := f.punchTail(obj, p, block, &rows[i].m[x]); err != nil {
					return err
				}
				if err := f.punchSlots(obj, p, first, block); err != nil {
					return err
				}
				first = block + 1
			}
		}
		if err := f.punchSlots(obj, p, first, stop); err != nil {
			return err
		}
		first = stop
	}
	return nil
}

func (f *File) punchSlots(obj *object.File, p meta.Plane, first, end uint64) error {
	for _, s := range f.res.unreleased(first, end) {
		if err := obj.Punch(p.Slot(s.first), p.Slot(s.end)-p.Slot(s.first)); err != nil {
			return err
		}
	}
	return nil
}
