package meta

import (
	"fmt"
)

// txAttr is an inode row as a transaction sees it.
type txAttr struct {
	base  *Attr // as read from the store, nil if absent; shared, never changed
	cur   *Attr // as it will be, nil if deleted; the transaction's own unless equal to base
	dirty bool
	stamp stamp // of the sealed value put by flush
}

// Attr returns a private copy of an inode's row. ErrNotFound if there is none.
func (tx *Tx) Attr(ino Ino) (*Attr, error) {
	e, err := tx.load(ino)
	if err != nil {
		return nil, err
	}
	return e.cur.Clone(), nil
}

// PutAttr replaces the row of an existing inode. a must have been read by Attr in this transaction (or written by an earlier PutAttr in
// it): a copy of another version is refused with ErrStale, so that nobody undoes a rename or a chmod with an old copy. a.Version is
// advanced. The fields that this package keeps must be as read: Zone, Parent, Tag, Nlink, Flags, XattrList, the type bits of Mode, and
// the wraps, of which only Uses may change (AddEpoch adds some): ErrInvalid otherwise. a is copied.
func (tx *Tx) PutAttr(a *Attr) error {
	if err := tx.writable(); err != nil {
		return err
	}
	e, err := tx.load(a.Ino)
	if err != nil {
		return err
	}
	if a.Version != e.cur.Version {
		return fmt.Errorf("put attributes of inode %d: version %d, current is %d: %w", a.Ino, a.Version, e.cur.Version, ErrStale)
	}
	if err := sameKept(e.cur, a); err != nil {
		return fmt.Errorf("put attributes of inode %d: %w", a.Ino, err)
	}
	c := a.Clone()
	if err := checkAttr(c); err != nil {
		return fmt.Errorf("put attributes of inode %d: %w: %w", a.Ino, ErrInvalid, err)
	}
	e.cur, e.dirty = c, true
	if e.base != nil {
		c.Version = e.base.Version + 1
	}
	a.Version = c.Version
	return nil
}

// sameKept refuses changes of fields that only this package changes.
func sameKept(old, a *Attr) error {
	if old.Type() != a.Type() || old.Zone != a.Zone || old.Parent != a.Parent || old.Tag != a.Tag || old.Nlink != a.Nlink ||
		old.Flags != a.Flags || old.XattrList != a.XattrList || len(old.Wraps) != len(a.Wraps) {
		return fmt.Errorf("a field that package meta keeps was changed: %w", ErrInvalid)
	}
	for i := range a.Wraps {
		w := a.Wraps[i]
		w.Uses = old.Wraps[i].Uses
		if w != old.Wraps[i] {
			return fmt.Errorf("a wrap was changed: %w", ErrInvalid)
		}
	}
	return nil
}

// load returns the transaction's view of a row. ErrNotFound if it is absent or deleted.
func (tx *Tx) load(ino Ino) (*txAttr, error) {
	e := tx.attrs[ino]
	if e == nil {
		a, err := tx.readAttr(ino)
		if err != nil {
			return nil, err
		}
		e = &txAttr{base: a, cur: a}
		if tx.attrs == nil { // a View
			tx.attrs = make(map[Ino]*txAttr, 4)
		}
		tx.attrs[ino] = e
	}
	if e.cur == nil {
		return nil, fmt.Errorf("inode %d: %w", ino, ErrNotFound)
	}
	return e, nil
}

// edit returns the transaction's own copy of a loaded row, to be changed.
func (tx *Tx) edit(e *txAttr) *Attr {
	if e.cur == e.base {
		e.cur = e.base.Clone()
		e.cur.Version++
	}
	e.dirty = true
	return e.cur
}

// insert adds a new inode row.
func (tx *Tx) insert(a *Attr) *txAttr {
	e := &txAttr{cur: a, dirty: true}
	tx.attrs[a.Ino] = e
	return e
}

// remove deletes a loaded row.
func (tx *Tx) remove(e *txAttr) {
	e.cur, e.dirty = nil, true
}

// readAttr reads a row from the store; the result is shared. ErrNotFound if it is absent.
func (tx *Tx) readAttr(ino Ino) (*Attr, error) {
	key := attrKey(ino)
	sealed, err := tx.get(key)
	if err != nil {
		return nil, fmt.Errorf("read inode %d: %w", ino, err)
	}
	if sealed == nil {
		return nil, fmt.Errorf("inode %d: %w", ino, ErrNotFound)
	}
	return tx.openAttr(ino, key, sealed)
}

// flushAttrs seals and puts the changed inode rows.
func (tx *Tx) flushAttrs() error {
	for ino, e := range tx.attrs {
		if !e.dirty {
			continue
		}
		key := attrKey(ino)
		if e.cur == nil {
			if e.base != nil {
				tx.w.Delete(key)
			}
			continue
		}
		sealed, err := tx.s.rows.seal(key, encodeAttr(e.cur))
		if err != nil {
			return fmt.Errorf("seal inode %d: %w", ino, err)
		}
		e.stamp = stampOf(sealed)
		tx.w.Put(key, sealed)
	}
	return nil
}
