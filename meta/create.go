package meta

import (
	"context"
	"fmt"
	"math"
)

// NewNode describes an inode to be made by Create or Tmpfile.
type NewNode struct {
	Mode     uint32 // file type and permission bits, umask applied
	UID, GID uint32
	Rdev     uint32            // device nodes only
	Target   []byte            // symlinks only, 1..MaxTarget bytes, no NUL; copied
	Params   *Params           // regular files only; nil: the zone's
	Xattrs   map[string][]byte // set on the new inode, e.g. inherited ACLs; copied
	// Inherit, if not nil, is called in the transaction with the directory's attributes and the node about to be made (after the setgid
	// rule); it may read through tx, e.g. the default ACL by Tx.Xattr, and change Mode's permission bits, GID and Xattrs of n. It may run
	// more than once, each time on a fresh copy, whose Xattrs it may replace but not write to.
	Inherit func(tx *Tx, dir *Attr, n *NewNode) error
}

func (n *NewNode) check() error {
	typ := n.Mode & ModeType
	device := typ == ModeChar || typ == ModeBlock
	switch {
	case n.Mode&^(ModeType|modePerm) != 0, !knownType(typ), n.Rdev != 0 && !device,
		n.Params != nil && (typ != ModeRegular || n.Params.check() != nil):
		return ErrInvalid
	case typ == ModeSymlink && len(n.Target) > MaxTarget:
		return ErrNameTooLong
	case typ == ModeSymlink && !validTarget(n.Target), typ != ModeSymlink && n.Target != nil:
		return ErrInvalid
	}
	return nil
}

// Create makes a new inode of any type under a name that must not exist: regular files with a fresh DEK wrapped for their place and
// LayoutInline, directories, symlinks, fifos, sockets and device nodes alike. In a setgid directory it takes over the group, a
// directory the bit too. Errors: ErrExist, ErrNotFound (parent is gone), ErrNotDir, ErrNameTooLong, ErrBadName, ErrInvalid,
// ErrTooManyLinks (of the parent), ErrXattrTooBig, ErrXattrList, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Create(ctx context.Context, parent Ino, name []byte, n NewNode) (*Attr, error) {
	a, err := s.create(ctx, parent, n, func(tx *Tx, zk *ZoneKeys, dir *txAttr, e *txAttr) error {
		tag := zk.nameTag(parent, name)
		if err := tx.absent(zk, parent, tag, name); err != nil {
			return err
		}
		e.cur.Parent, e.cur.Tag, e.cur.Nlink = parent, tag, 1
		if e.cur.IsDir() {
			e.cur.Nlink = 2
			if err := tx.addSubdirs(dir, 1); err != nil {
				return err
			}
		}
		tx.touchDir(dir)
		return tx.putDentry(zk, parent, tag, &dentry{ino: e.cur.Ino, typ: e.cur.Type(), name: name})
	}, checkName(name))
	if err != nil {
		return nil, fmt.Errorf("create in inode %d: %w", parent, err)
	}
	return a, nil
}

// Tmpfile makes a nameless regular file (an orphan) in the zone of directory parent. Link may give it a name. ReleaseOrphans is due when it
// is closed without one. Errors as Create's; ErrInvalid if n is no regular file.
func (s *Store) Tmpfile(ctx context.Context, parent Ino, n NewNode) (*Attr, error) {
	var early error
	if n.Mode&ModeType != ModeRegular {
		early = ErrInvalid
	}
	a, err := s.create(ctx, parent, n, func(tx *Tx, _ *ZoneKeys, _ *txAttr, e *txAttr) error {
		e.cur.Flags |= FlagOrphan | FlagLinkable
		return tx.putMark(inoKey(kindOrphan, e.cur.Ino))
	}, early)
	if err != nil {
		return nil, fmt.Errorf("create temporary file in inode %d: %w", parent, err)
	}
	return a, nil
}

// create makes an inode in the zone of parent; place gives it its name. early is an error that is known before.
func (s *Store) create(ctx context.Context, parent Ino, n NewNode, place func(*Tx, *ZoneKeys, *txAttr, *txAttr) error, early error) (*Attr, error) {
	if early == nil {
		early = n.check()
	}
	if early == nil {
		early = s.warm(ctx, parent)
	}
	if early != nil {
		return nil, early
	}
	ino, err := s.newIno(ctx)
	if err != nil {
		return nil, err
	}
	var e *txAttr
	err = s.UpdateWithKeys(ctx, func(tx *Tx) error {
		dir, err := tx.liveDir(parent)
		if err != nil {
			return err
		}
		zk, err := s.zoneKeys(ctx, dir.cur.Zone)
		if err != nil {
			return err
		}
		node := n
		if err := node.inherit(tx, dir.cur); err != nil {
			return err
		}
		e = tx.insert(tx.newAttr(ino, dir.cur, &node))
		if err := place(tx, zk, dir, e); err != nil {
			return err
		}
		return tx.fill(zk, e.cur, &node)
	})
	if err != nil {
		return nil, err
	}
	return e.cur.Clone(), nil
}

// inherit applies the setgid rule and the caller's hook to a copy of what the caller asked for.
func (n *NewNode) inherit(tx *Tx, dir *Attr) error {
	if dir.Mode&ModeSetGID != 0 {
		n.GID = dir.GID
		if n.Mode&ModeType == ModeDir {
			n.Mode |= ModeSetGID
		}
	}
	if n.Inherit == nil {
		return nil
	}
	typ := n.Mode & ModeType
	if err := n.Inherit(tx, dir.Clone(), n); err != nil {
		return err
	}
	if n.Mode&ModeType != typ {
		return fmt.Errorf("hook changed the file type: %w", ErrInvalid)
	}
	return n.check()
}

func (tx *Tx) newAttr(ino Ino, dir *Attr, n *NewNode) *Attr {
	a := &Attr{Ino: ino, Mode: n.Mode, UID: n.UID, GID: n.GID, Rdev: n.Rdev, Zone: dir.Zone, Size: uint64(len(n.Target)),
		Atime: tx.now, Mtime: tx.now, Ctime: tx.now, Btime: tx.now, Version: 1}
	if a.IsRegular() {
		a.Layout = LayoutInline
	}
	return a
}

// fill writes what belongs to a new inode besides its row and name, which it has by now: keys, target, xattrs.
func (tx *Tx) fill(zk *ZoneKeys, a *Attr, n *NewNode) error {
	switch a.Type() {
	case ModeRegular:
		params, err := tx.s.paramsOf(tx, a.Zone, n)
		if err != nil {
			return err
		}
		a.Params = params
		dek, err := tx.addKey(zk, a)
		if err != nil {
			return err
		}
		dek.Wipe()
	case ModeSymlink:
		key := inoKey(kindSymlink, a.Ino)
		sealed, err := sealRow(zk.Names, tx.s.volume, key, encodeTarget(n.Target))
		if err != nil {
			return err
		}
		tx.w.Put(key, sealed)
	}
	for name, value := range n.Xattrs {
		if err := tx.setXattr(zk, a, name, value, XattrCreate); err != nil {
			return err
		}
	}
	return checkAttr(a)
}

// paramsOf returns the parameters of a new file in a zone: its own, else the zone's.
func (s *Store) paramsOf(tx *Tx, id ZoneID, n *NewNode) (Params, error) {
	if n.Params != nil {
		return *n.Params, nil
	}
	return s.zoneParams(tx, id)
}

// ZoneParams returns the parameters of files that are made in a zone now. ErrNotFound if there is no such zone.
func (s *Store) ZoneParams(ctx context.Context, id ZoneID) (p Params, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		p, err = s.zoneParams(tx, id)
		return err
	})
	if err != nil {
		return Params{}, fmt.Errorf("parameters of zone %d: %w", id, err)
	}
	return p, nil
}

func (s *Store) zoneParams(tx *Tx, id ZoneID) (Params, error) {
	p, turn, ok := s.params.get(id)
	if ok {
		return p, nil
	}
	key := zoneKey(id)
	sealed, err := tx.get(key)
	if err != nil {
		return Params{}, err
	}
	if sealed == nil {
		return Params{}, fmt.Errorf("zone %d: %w", id, ErrNotFound)
	}
	z, err := openZone(s.rows, key, sealed)
	if err != nil {
		return Params{}, err
	}
	s.params.put(id, z.Params, turn)
	return z.Params, nil
}

// liveDir loads a directory that still has a name: ErrNotDir, ErrNotFound.
func (tx *Tx) liveDir(ino Ino) (*txAttr, error) {
	e, err := tx.load(ino)
	switch {
	case err != nil:
		return nil, err
	case !e.cur.IsDir():
		return nil, ErrNotDir
	case e.cur.Nlink == 0:
		return nil, fmt.Errorf("directory was removed: %w", ErrNotFound)
	}
	return e, nil
}

// absent is nil if a name is free, and ErrExist if not.
func (tx *Tx) absent(zk *ZoneKeys, parent Ino, tag NameTag, name []byte) error {
	sealed, err := tx.get(dentryRowKey(parent, tag))
	if err != nil || sealed == nil {
		return err
	}
	if _, err := tx.dentry(zk, parent, tag, name); err != nil {
		return err
	}
	return ErrExist
}

// touchDir notes that a directory's entries changed.
func (tx *Tx) touchDir(dir *txAttr) {
	a := tx.edit(dir)
	a.Mtime, a.Ctime = tx.now, tx.now
}

// addSubdirs changes the link count of a directory by its subdirectories' "..".
func (tx *Tx) addSubdirs(dir *txAttr, n int64) error {
	a := tx.edit(dir)
	links := int64(a.Nlink) + n
	if links > math.MaxUint32 {
		return ErrTooManyLinks
	}
	if links < 2 {
		return fmt.Errorf("directory %d would have %d links: %w", a.Ino, links, ErrCorrupt)
	}
	a.Nlink = uint32(links)
	return nil
}

// putDentry writes a dentry row. d.name is copied.
func (tx *Tx) putDentry(zk *ZoneKeys, parent Ino, tag NameTag, d *dentry) error {
	key := dentryRowKey(parent, tag)
	own := &dentry{ino: d.ino, typ: d.typ, name: append([]byte(nil), d.name...)}
	sealed, err := sealRow(zk.Names, tx.s.volume, key, encodeDentry(own))
	if err != nil {
		return err
	}
	tx.names = append(tx.names, txDentry{key: cacheKey{kindDentry, parent, tag}, value: own, stamp: stampOf(sealed)})
	tx.w.Put(key, sealed)
	return nil
}

func (tx *Tx) deleteDentry(parent Ino, tag NameTag) {
	tx.names = append(tx.names, txDentry{key: cacheKey{kindDentry, parent, tag}})
	tx.w.Delete(dentryRowKey(parent, tag))
}

// putMark writes a row whose key says all.
func (tx *Tx) putMark(key []byte) error {
	sealed, err := tx.s.rows.seal(key, encodeMark())
	if err != nil {
		return err
	}
	tx.w.Put(key, sealed)
	return nil
}
