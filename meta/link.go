package meta

import (
	"context"
	"fmt"
)

// Link adds a name to an inode that is no directory, and returns its new attributes. An orphan can be named only if Tmpfile made it; its
// first name becomes the primary one. Errors: ErrExist, ErrNotFound, ErrIsDir, ErrNotDir, ErrCrossZone, ErrTooManyLinks,
// ErrNameTooLong, ErrBadName, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Link(ctx context.Context, ino, parent Ino, name []byte) (*Attr, error) {
	a, err := s.link(ctx, ino, parent, name)
	if err != nil {
		return nil, fmt.Errorf("link inode %d in inode %d: %w", ino, parent, err)
	}
	return a, nil
}

func (s *Store) link(ctx context.Context, ino, parent Ino, name []byte) (*Attr, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := s.warm(ctx, parent); err != nil {
		return nil, err
	}
	var e *txAttr
	err := s.UpdateWithKeys(ctx, func(tx *Tx) error {
		dir, err := tx.liveDir(parent)
		if err != nil {
			return err
		}
		if e, err = tx.load(ino); err != nil {
			return err
		}
		if e.cur.IsDir() {
			return ErrIsDir
		}
		if e.cur.Zone != dir.cur.Zone {
			return ErrCrossZone
		}
		zk, err := s.zoneKeys(ctx, dir.cur.Zone)
		if err != nil {
			return err
		}
		tag := zk.nameTag(parent, name)
		if err := tx.absent(zk, parent, tag, name); err != nil {
			return err
		}
		if err := tx.addName(zk, e, parent, tag); err != nil {
			return err
		}
		tx.touchDir(dir)
		return tx.putDentry(zk, parent, tag, &dentry{ino: ino, typ: e.cur.Type(), name: name})
	})
	if err != nil {
		return nil, err
	}
	return e.cur.Clone(), nil
}

// addName counts a new name of an inode: the first one becomes primary, further ones get a link row.
func (tx *Tx) addName(zk *ZoneKeys, e *txAttr, parent Ino, tag NameTag) error {
	if e.cur.Flags.Orphan() && e.cur.Flags&FlagLinkable == 0 {
		return fmt.Errorf("inode was removed: %w", ErrNotFound)
	}
	if e.cur.Nlink >= MaxLinks {
		return ErrTooManyLinks
	}
	a := tx.edit(e)
	a.Ctime = tx.now
	a.Nlink++
	if !a.Flags.Orphan() {
		return tx.putMark(linkKey(a.Ino, parent, tag))
	}
	a.Flags &^= FlagOrphan | FlagLinkable
	tx.w.Delete(inoKey(kindOrphan, a.Ino))
	return tx.move(zk, a, parent, tag)
}

// moveName moves one name of an inode from one place to another.
func (tx *Tx) moveName(zk *ZoneKeys, e *txAttr, from, to place) error {
	a := tx.edit(e)
	a.Ctime = tx.now
	if a.Parent == from.parent && a.Tag == from.tag {
		return tx.move(zk, a, to.parent, to.tag)
	}
	if err := tx.deleteLink(a.Ino, from); err != nil {
		return err
	}
	return tx.putMark(linkKey(a.Ino, to.parent, to.tag))
}

// deleteLink removes the link row of a name that is not the primary one. ErrCorrupt if there is none.
func (tx *Tx) deleteLink(ino Ino, at place) error {
	key := linkKey(ino, at.parent, at.tag)
	sealed, err := tx.get(key)
	if err != nil {
		return err
	}
	if sealed == nil {
		return fmt.Errorf("inode %d has no link row for a name in inode %d: %w", ino, at.parent, ErrCorrupt)
	}
	tx.w.Delete(key)
	return nil
}

// place is where a name is.
type place struct {
	parent Ino
	tag    NameTag
}

// firstLink returns the place of the first link row of an inode. ErrCorrupt if there is none.
func (tx *Tx) firstLink(ino Ino) (place, error) {
	var at place
	var ok bool
	var failed error
	prefix := inoKey(kindLink, ino)
	err := tx.r.Scan(tx.ctx, prefix, afterPrefix(prefix), 1, func(k, v []byte) bool {
		var plain []byte
		if plain, failed = tx.s.rows.open(k, v); failed != nil {
			return false
		}
		if failed = decodeMark(plain, "link"); failed != nil {
			return false
		}
		_, at.parent, at.tag, ok = parseLinkKey(k)
		return false
	})
	if err == nil {
		err = failed
	}
	if err == nil && !ok {
		err = fmt.Errorf("inode %d has no link row: %w", ino, ErrCorrupt)
	}
	return at, err
}
