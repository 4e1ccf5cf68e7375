package content

import (
	"context"
	"fmt"
	"sort"

	"github.com/kmsfs/kmsfs/meta"
)

// change is one transaction on the content of a File, gathered while the File is locked for writing. The zero values of its fields change nothing.
type change struct {
	f    *File
	opts WriteOpts
	next state // the inode's state afterwards; starts as the present one

	rows     []changedRow // ascending
	images   []newImageRow
	durable  []uint64 // rows of which what is new is durable in its slots already; ascending
	dropped  []uint64 // blocks whose images go
	released []span   // blocks that lose their entries
	garbage  []meta.Garbage
	inline   *meta.Inline // new inline content
	noInline bool         // the inline content goes

	epoch uint32 // of the key that was used
	uses  uint64 // of it
	ahead *ahead // blocks that were sealed before; their uses are counted already

	noObject bool // the object goes
	same     bool // what the file holds stays: a re-encryption

	counted  bool
	reserved bool   // the inode's row has the reservation
	was, is  uint64 // versions of the inode's row before and after
}

// changedRow is the new content of a map row. It goes into the cache when it is committed, and is not changed any more.
type changedRow struct {
	row uint64
	m   *meta.MapRow
}

type newImageRow struct {
	block uint64
	image []byte
}

// newChange begins one. Called with mu held for writing.
func (f *File) newChange(opts WriteOpts) *change {
	return &change{f: f, opts: opts, next: f.st, epoch: f.epoch.Load()}
}

// row returns the change's own copy of a map row, made from base (nil: no entries) when it is touched for the first time.
func (c *change) row(row uint64, base *meta.MapRow) *meta.MapRow {
	i := sort.Search(len(c.rows), func(i int) bool { return c.rows[i].row >= row })
	if i < len(c.rows) && c.rows[i].row == row {
		return c.rows[i].m
	}
	m := new(meta.MapRow)
	if base != nil {
		*m = *base
	}
	c.rows = append(c.rows, changedRow{})
	copy(c.rows[i+1:], c.rows[i:])
	c.rows[i] = changedRow{row, m}
	return m
}

// set replaces a block's entry, base being the row as it is committed.
func (c *change) set(block uint64, base *meta.MapRow, e meta.Entry) {
	row, i := meta.RowOf(block)
	old := &c.row(row, base)[i]
	c.next.allocated += e.Allocated() - old.Allocated()
	*old = e
}

// remove makes holes of all blocks of [first, end) that have entries in the committed row r, and returns how many.
func (c *change) remove(r *mapped, first, end uint64) int {
	n := 0
	for i := range r.m {
		block := r.first() + uint64(i)
		if r.m[i].Present && block >= first && block < end {
			c.set(block, &r.m, meta.Entry{})
			n++
		}
	}
	return n
}

// putImage adds an image.
func (c *change) putImage(block uint64, image []byte) {
	c.images = append(c.images, newImageRow{block, image})
}

// release says that the slots of [first, end) in a plane are not referred to any more: their images go now, and their space after the next
// checkpoint. end may be the plane's Limit: all from first on.
func (c *change) release(ctx context.Context, p meta.Plane, first, end uint64) error {
	g := meta.Garbage{Ino: c.f.ino, Serial: p.Serial, Op: meta.GarbagePunch, First: p.Index(first), Count: end - first}
	if end == p.Limit() {
		g.Count = meta.ToEnd
	}
	c.garbage = append(c.garbage, g)
	c.released = append(c.released, span{first, end})
	return c.dropImages(ctx, first, end)
}

// releaseObject is release for all of a plane.
func (c *change) releaseObject(ctx context.Context, p meta.Plane) error {
	c.garbage = append(c.garbage, meta.Garbage{Ino: c.f.ino, Serial: p.Serial, Op: meta.GarbageObject})
	return c.dropImages(ctx, p.Base, p.Limit())
}

func (c *change) dropImages(ctx context.Context, first, end uint64) error {
	f := c.f
	c.dropped = f.res.imagesFrom(first, end, c.dropped)
	if !f.untidy() {
		return nil
	}
	return f.e.meta.View(ctx, func(tx *meta.Tx) error {
		return tx.ScanImages(f.ino, first, end, func(block uint64, _ []byte) bool {
			c.dropped = append(c.dropped, block)
			return true
		})
	})
}

// commit makes the change one transaction and then part of the File. Called with mu held for writing.
func (c *change) commit(ctx context.Context) error {
	f := c.f
	c.count()
	reserved := f.uses.reservation()
	_, err := f.e.meta.Update(ctx, func(tx *meta.Tx) error { return c.apply(tx, reserved) })
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if c.reserved {
		f.uses.grant(c.epoch, reserved)
	}
	f.watch.note(c)
	f.setState(c.next)
	f.changes++
	if f.plainAt == c.was {
		f.plainAt = c.is
	}
	for _, r := range c.rows {
		f.e.rows.put(rowKey{f.ino, r.row}, r.m)
	}
	blocks := make([]uint64, len(c.images))
	for i := range c.images {
		blocks[i] = c.images[i].block
	}
	f.res.settledLater(blocks, c.dropped, c.released)
	if c.noObject {
		f.res.forgetWrites()
	}
	return nil
}

// count adds the change's uses to those of the key, once, whether or not it is committed. Called with mu held for writing.
func (c *change) count() {
	if !c.counted && c.epoch == c.f.epoch.Load() {
		c.f.uses.take(c.uses)
	}
	c.counted = true
}

// apply puts the change into a transaction. It may run more than once.
func (c *change) apply(tx *meta.Tx, reserved uint64) error {
	a, err := tx.Attr(c.f.ino)
	if err != nil {
		return err
	}
	if stateOf(a) != c.f.st {
		return fmt.Errorf("inode %d was changed by somebody else: %w", c.f.ino, meta.ErrStale)
	}
	if c.was = a.Version; a.Flags.HasXattr() && c.was != c.f.plainAt && !c.same {
		return errCapability
	}
	if err := c.applyRows(tx); err != nil {
		return err
	}
	c.next.put(a)
	w := a.Wrap(c.epoch)
	if c.reserved = w != nil; c.reserved {
		w.Uses = max(w.Uses, reserved)
	}
	if c.opts.KillSUID {
		a.Mode = withoutSUID(a.Mode)
	}
	if !c.opts.KeepTimes {
		a.Mtime, a.Ctime = tx.Now(), tx.Now()
	}
	err = tx.PutAttr(a)
	c.is = a.Version
	return err
}

func (c *change) applyRows(tx *meta.Tx) error {
	ino := c.f.ino
	for _, r := range c.rows {
		if err := tx.PutMapRow(ino, r.row, r.m); err != nil {
			return err
		}
	}
	for _, row := range c.durable {
		if err := tx.PutRowMarker(ino, row); err != nil {
			return err
		}
	}
	for _, block := range c.dropped {
		if err := tx.DeleteImage(ino, block); err != nil {
			return err
		}
	}
	for _, im := range c.images {
		if err := tx.PutImage(ino, im.block, im.image); err != nil {
			return err
		}
	}
	for _, g := range c.garbage {
		if err := c.applyGarbage(tx, g); err != nil {
			return err
		}
	}
	switch {
	case c.inline != nil:
		return tx.PutInline(ino, *c.inline)
	case c.noInline:
		return tx.DeleteInline(ino)
	}
	return nil
}

// applyGarbage puts a record; one of a larger range from the same block on that still waits stays as large.
func (c *change) applyGarbage(tx *meta.Tx, g meta.Garbage) error {
	p, _ := c.f.st.planeWith(g.Serial)
	if g.Op == meta.GarbagePunch && (c.f.res.isReleased(p.Base+g.First) || c.f.untidy()) {
		old, err := garbageLike(tx, g)
		if err != nil {
			return err
		}
		g.Count = max(g.Count, old.Count)
	}
	return tx.PutGarbage(g)
}

// withoutSUID clears what a write clears: the set-user-id bit, and the set-group-id bit if the group may execute the file (otherwise it once
// meant mandatory locking).
func withoutSUID(mode uint32) uint32 {
	const groupExec = 0o010
	mode &^= meta.ModeSetUID
	if mode&groupExec != 0 {
		mode &^= meta.ModeSetGID
	}
	return mode
}
