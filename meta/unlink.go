package meta

import (
	"context"
	"fmt"
)

// Unlink removes a name that is no directory and returns the attributes of its inode as they are now. If that was the last name, Nlink is 0,
// and either everything of the inode is gone, or Flags.Orphan() holds: open said that it is in use, or it has too many rows for one
// transaction. ReleaseOrphans is due then, at the last close or at once. open is asked within the transaction, perhaps more than once,
// and must not block; nil means that nothing is open. Errors: ErrNotFound, ErrIsDir, ErrNotDir, ErrNameTooLong, ErrBadName,
// ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Unlink(ctx context.Context, parent Ino, name []byte, open func(Ino) bool) (*Attr, error) {
	a, err := s.unlink(ctx, parent, name, open, func(_ *Tx, _, e *txAttr) error {
		if e.cur.IsDir() {
			return ErrIsDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("unlink in inode %d: %w", parent, err)
	}
	return a, nil
}

// Rmdir removes an empty directory; result and open as in Unlink. Errors: ErrNotFound, ErrNotDir, ErrNotEmpty,
// ErrNameTooLong, ErrBadName, ErrKeyUnavailable, ErrKeyRevoked. With the directory of a zone goes the zone; its keys are not needed for that.
func (s *Store) Rmdir(ctx context.Context, parent Ino, name []byte, open func(Ino) bool) (*Attr, error) {
	a, err := s.unlink(ctx, parent, name, open, func(tx *Tx, dir, e *txAttr) error {
		if !e.cur.IsDir() {
			return ErrNotDir
		}
		if err := tx.emptyDir(e.cur.Ino); err != nil || e.cur.Zone == dir.cur.Zone {
			return err
		}
		return tx.endZone(e, dir.cur.Zone)
	})
	if err != nil {
		return nil, fmt.Errorf("remove directory in inode %d: %w", parent, err)
	}
	return a, nil
}

// endZone removes the zone of an empty directory that is about to be removed. The directory may live on without a name: it belongs to the zone around it then,
// without its xattrs, which only the zone's keys would open.
func (tx *Tx) endZone(e *txAttr, around ZoneID) error {
	z, err := tx.zone(e.cur.Zone)
	if err != nil {
		return missing(err)
	}
	if z.Dir != e.cur.Ino {
		return fmt.Errorf("inode %d is in zone %d, its directory in zone %d: %w", e.cur.Ino, e.cur.Zone, around, ErrCorrupt)
	}
	a := tx.edit(e)
	_, more, err := tx.deleteRows(a, tx.s.batch)
	if err != nil {
		return err
	}
	if more {
		return fmt.Errorf("remove the xattrs of inode %d first: %w", a.Ino, ErrNotEmpty)
	}
	a.Zone, a.XattrList = around, 0
	a.Flags &^= FlagXattr | FlagACLAccess | FlagACLDefault
	tx.deleteZone(z.ID)
	return nil
}

// unlink removes a name whose inode may approves of.
func (s *Store) unlink(ctx context.Context, parent Ino, name []byte, open func(Ino) bool, may func(tx *Tx, dir, e *txAttr) error) (*Attr, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := s.warm(ctx, parent); err != nil {
		return nil, err
	}
	var victim *Attr
	_, err := s.Update(ctx, func(tx *Tx) error {
		dir, err := tx.liveDir(parent)
		if err != nil {
			return err
		}
		zk, err := s.zoneKeys(ctx, dir.cur.Zone)
		if err != nil {
			return err
		}
		at := place{parent, zk.nameTag(parent, name)}
		d, err := tx.dentry(zk, parent, at.tag, name)
		if err != nil {
			return err
		}
		e, err := tx.target(d)
		if err != nil {
			return err
		}
		if err := may(tx, dir, e); err != nil {
			return err
		}
		tx.touchDir(dir)
		if e.cur.IsDir() {
			if err := tx.addSubdirs(dir, -1); err != nil {
				return err
			}
		}
		tx.deleteDentry(parent, at.tag)
		victim, err = tx.dropName(zk, e, at, open)
		return err
	})
	if err != nil {
		return nil, err
	}
	return victim.Clone(), nil
}

// target loads the inode that a dentry leads to. ErrCorrupt if it is gone or of another type.
func (tx *Tx) target(d *dentry) (*txAttr, error) {
	e, err := tx.load(d.ino)
	if err != nil {
		return nil, fmt.Errorf("dentry leads to inode %d: %w", d.ino, missing(err))
	}
	if e.cur.Type() != d.typ {
		return nil, fmt.Errorf("dentry says that inode %d is of type %#o: %w", d.ino, d.typ, ErrCorrupt)
	}
	return e, nil
}

// emptyDir is ErrNotEmpty if a directory has entries. A concurrent creation conflicts through the directory's own row.
func (tx *Tx) emptyDir(ino Ino) error {
	prefix := inoKey(kindDentry, ino)
	var found bool
	err := tx.r.Scan(tx.ctx, prefix, afterPrefix(prefix), 1, func(_, _ []byte) bool {
		found = true
		return false
	})
	if err == nil && found {
		err = ErrNotEmpty
	}
	return err
}

// dropName takes one name away from an inode, whose dentry the caller removes or replaces. With the last name goes the inode, or it becomes an
// orphan. The result is the inode as it will be, shared with the transaction.
func (tx *Tx) dropName(zk *ZoneKeys, e *txAttr, at place, open func(Ino) bool) (*Attr, error) {
	primary := e.cur.Parent == at.parent && e.cur.Tag == at.tag
	last := e.cur.IsDir() || e.cur.Nlink == 1
	if last && !primary {
		return nil, fmt.Errorf("last name of inode %d is not its primary one: %w", e.cur.Ino, ErrCorrupt)
	}
	a := tx.edit(e)
	a.Ctime = tx.now
	switch {
	case !last:
		a.Nlink--
		if !primary {
			return a, tx.deleteLink(a.Ino, at)
		}
		next, err := tx.firstLink(a.Ino)
		if err != nil {
			return nil, err
		}
		tx.w.Delete(linkKey(a.Ino, next.parent, next.tag))
		return a, tx.unname(zk, a, next.parent, next.tag)
	case open != nil && open(a.Ino), !tx.s.caps.Exclusive: // other users of a shared store learn of a removal by the orphan's row
		return a, tx.makeOrphan(zk, a)
	}
	_, more, err := tx.deleteRows(a, tx.s.batch)
	if err != nil {
		return nil, err
	}
	if more {
		return a, tx.makeOrphan(zk, a)
	}
	if err := tx.removeInode(e); err != nil {
		return nil, err
	}
	gone := a.Clone()
	gone.Nlink, gone.Parent, gone.Tag = 0, 0, NameTag{}
	return gone, nil
}

// makeOrphan turns an inode that loses its last name into an orphan.
func (tx *Tx) makeOrphan(zk *ZoneKeys, a *Attr) error {
	a.Nlink = 0
	a.Flags |= FlagOrphan
	if err := tx.unname(zk, a, 0, NameTag{}); err != nil {
		return err
	}
	return tx.putMark(inoKey(kindOrphan, a.Ino))
}
