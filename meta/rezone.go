package meta

import (
	"bytes"
	"errors"
	"fmt"
)

// treeLimit is how many inodes go into another zone in one transaction at most: each takes some 600 bytes of it.
const treeLimit = 5000

// rezoning puts a directory and all below it, down to the directories of other zones, into another zone: names, symlink targets, xattrs and file keys are
// sealed and wrapped under its keys. Contents are not touched: what is sealed under the files' keys stays so.
type rezoning struct {
	tx        *Tx
	from, to  ZoneID
	old, keys *ZoneKeys

	dirs  []*txAttr      // whose entries are still to be moved
	files []Ino          // regular files that were moved
	names map[Ino]uint32 // of inodes with several names: how many were found
	seen  int
}

// tree moves all. Errors: ErrTooMany, ErrCrossZone (a file has a name elsewhere), those of rows that do not open.
func (r *rezoning) tree(top *txAttr) error {
	r.dirs, r.names = []*txAttr{top}, map[Ino]uint32{}
	for len(r.dirs) > 0 {
		dir := r.dirs[0]
		r.dirs = r.dirs[1:]
		if err := r.dir(dir); err != nil {
			return fmt.Errorf("directory %d: %w", dir.cur.Ino, err)
		}
	}
	for ino, n := range r.names {
		if e := r.tx.attrs[ino]; e.cur.Nlink != n || e.cur.Zone != r.to {
			return fmt.Errorf("inode %d has %d of its %d names there: %w", ino, n, e.cur.Nlink, ErrCrossZone)
		}
	}
	return nil
}

// dir moves a directory and its entries; directories among them are put off.
func (r *rezoning) dir(e *txAttr) error {
	a := r.tx.edit(e)
	if err := r.tx.rekeyXattrs(a.Ino, r.old, r.keys); err != nil {
		return err
	}
	a.Zone = r.to
	prefix := inoKey(kindDentry, a.Ino)
	type row struct{ key, sealed []byte }
	var rows []row
	err := r.tx.r.Scan(r.tx.ctx, prefix, afterPrefix(prefix), treeLimit+1, func(k, v []byte) bool {
		rows = append(rows, row{bytes.Clone(k), bytes.Clone(v)})
		return true
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if r.seen++; r.seen > treeLimit {
			return fmt.Errorf("more than %d names: %w", treeLimit, ErrTooMany)
		}
		_, tag, ok := parseInoTag(kindDentry, row.key)
		if !ok {
			return fmt.Errorf("dentry key: %w", ErrCorrupt)
		}
		d, err := r.tx.openDentry(r.old, a.Ino, tag, row.key, row.sealed)
		if err == nil {
			err = r.entry(place{a.Ino, tag}, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry moves one name and what it leads to.
func (r *rezoning) entry(at place, d *dentry) error {
	to := place{at.parent, r.keys.nameTag(at.parent, d.name)}
	e, err := r.tx.target(d)
	if err != nil {
		return err
	}
	switch {
	case e.cur.IsDir():
		r.tx.edit(e).Tag = to.tag
		if e.cur.Zone == r.from {
			r.dirs = append(r.dirs, e)
		}
	default:
		if err := r.node(e, at, to); err != nil {
			return fmt.Errorf("inode %d: %w", d.ino, err)
		}
	}
	moved := *d
	r.tx.deleteDentry(at.parent, at.tag)
	return r.tx.putDentry(r.keys, to.parent, to.tag, &moved)
}

// node moves one name of what is no directory, and with the primary one the inode.
func (r *rezoning) node(e *txAttr, at, to place) error {
	tx, a := r.tx, r.tx.edit(e)
	if a.Nlink > 1 {
		r.names[a.Ino]++
	}
	if a.Parent != at.parent || a.Tag != at.tag {
		if err := tx.deleteLink(a.Ino, at); err != nil {
			return err
		}
		return tx.putMark(linkKey(a.Ino, to.parent, to.tag))
	}
	if a.Zone != r.from {
		return fmt.Errorf("it is in zone %d: %w", a.Zone, ErrCorrupt)
	}
	if a.Flags.HasXattr() {
		if err := tx.rekeyXattrs(a.Ino, r.old, r.keys); err != nil {
			return err
		}
	}
	if a.Type() == ModeSymlink {
		if err := tx.rekeyTarget(a.Ino, r.old, r.keys); err != nil {
			return err
		}
	}
	if a.IsRegular() && (a.ByCMK() || r.keys.Files != nil) {
		return fmt.Errorf("inode %d: a CMK wraps data keys itself, here or there: %w", a.Ino, ErrFileKeys)
	}
	next := *a
	next.Zone, next.Tag = r.to, to.tag
	if err := tx.s.rewrap(r.old, r.keys, a, &next); err != nil {
		return err
	}
	a.Zone, a.Tag = r.to, to.tag
	if a.IsRegular() {
		r.files = append(r.files, a.Ino)
	}
	return nil
}

// errTree tells what a transaction that moves a tree failed with.
func errTree(err error) error {
	if errors.Is(err, errTooBig) {
		return fmt.Errorf("%w: %w", ErrTooMany, err)
	}
	return err
}
