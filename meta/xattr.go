package meta

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// XattrFlags as in setxattr(2).
type XattrFlags uint32

const (
	XattrCreate  XattrFlags = 1 // fail with ErrExist if it exists
	XattrReplace XattrFlags = 2 // fail with ErrNoXattr if it does not
)

// Names of the POSIX ACLs, whose presence is kept in Attr.Flags.
const (
	XattrACLAccess  = "system.posix_acl_access"
	XattrACLDefault = "system.posix_acl_default"
)

func checkXattrName(name string) error {
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0:
		return ErrBadName
	case len(name) > MaxXattrName:
		return ErrNameTooLong
	}
	return nil
}

// aclFlag returns the flag of an ACL's name, 0 for any other.
func aclFlag(name string) Flags {
	switch name {
	case XattrACLAccess:
		return FlagACLAccess
	case XattrACLDefault:
		return FlagACLDefault
	}
	return 0
}

// lacks reports whether the inode row alone says that there is no such xattr.
func (a *Attr) lacks(name string) bool {
	f := aclFlag(name)
	return !a.Flags.HasXattr() || f != 0 && a.Flags&f == 0
}

// LacksXattr tells whether the inode's row alone says that it has no such xattr: one cached lookup. False: GetXattr knows. Errors: ErrNotFound.
func (s *Store) LacksXattr(ctx context.Context, ino Ino, name string) (bool, error) {
	a, err := s.attr(ctx, ino)
	if err != nil {
		return false, wrapIno("get xattr", ino, err)
	}
	return a.lacks(name), nil
}

// GetXattr returns the value of an xattr, which may be empty; the slice is the caller's. An inode without any costs one cached lookup.
// Errors: ErrNotFound, ErrNoXattr, ErrNameTooLong, ErrBadName, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) GetXattr(ctx context.Context, ino Ino, name string) ([]byte, error) {
	if err := checkXattrName(name); err != nil {
		return nil, wrapIno("get xattr", ino, err)
	}
	a, err := s.attr(ctx, ino)
	if err != nil {
		return nil, wrapIno("get xattr", ino, err)
	}
	if a.lacks(name) {
		return nil, wrapIno("get xattr", ino, ErrNoXattr)
	}
	if _, err := s.zoneKeys(ctx, a.Zone); err != nil {
		return nil, wrapIno("get xattr", ino, err)
	}
	var value []byte
	err = s.View(ctx, func(tx *Tx) error {
		var err error
		value, err = tx.Xattr(ino, name)
		return err
	})
	if err != nil {
		return nil, wrapIno("get xattr", ino, err)
	}
	return value, nil
}

// Xattr returns the value of an xattr; the slice is the caller's. Errors: ErrNotFound, ErrNoXattr, ErrKeyUnavailable, ErrKeyRevoked.
func (tx *Tx) Xattr(ino Ino, name string) ([]byte, error) {
	e, err := tx.load(ino)
	if err != nil {
		return nil, err
	}
	if e.cur.lacks(name) {
		return nil, ErrNoXattr
	}
	zk, err := tx.s.zoneKeys(tx.ctx, e.cur.Zone)
	if err != nil {
		return nil, err
	}
	value, ok, err := tx.xattr(zk, ino, name)
	if err == nil && !ok {
		err = ErrNoXattr
	}
	return value, err
}

func (tx *Tx) xattr(zk *ZoneKeys, ino Ino, name string) (value []byte, ok bool, err error) {
	key := xattrKey(ino, zk.xattrTag(ino, name))
	sealed, err := tx.get(key)
	if err != nil || sealed == nil {
		return nil, false, err
	}
	have, value, err := tx.openXattr(zk, key, sealed)
	if err == nil && have != name {
		err = fmt.Errorf("xattr of inode %d has another name than its tag says: %w", ino, ErrCorrupt)
	}
	return value, true, err
}

func (tx *Tx) openXattr(zk *ZoneKeys, key, sealed []byte) (name string, value []byte, err error) {
	plain, err := openRow(zk.Names, tx.s.volume, key, sealed)
	if err != nil {
		return "", nil, err
	}
	return decodeXattr(plain)
}

// ListXattr returns the names of all xattrs, in no particular order. Errors: ErrNotFound, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) ListXattr(ctx context.Context, ino Ino) ([]string, error) {
	a, err := s.attr(ctx, ino)
	if err != nil || !a.Flags.HasXattr() {
		return nil, wrapIno("list xattrs", ino, err)
	}
	zk, err := s.zoneKeys(ctx, a.Zone)
	if err != nil {
		return nil, wrapIno("list xattrs", ino, err)
	}
	var names []string
	var failed error
	prefix := inoKey(kindXattr, ino)
	err = s.View(ctx, func(tx *Tx) error {
		return tx.r.Scan(ctx, prefix, afterPrefix(prefix), 0, func(k, v []byte) bool {
			var name string
			name, _, failed = tx.openXattr(zk, k, v)
			names = append(names, name)
			return failed == nil
		})
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, wrapIno("list xattrs", ino, err)
	}
	return names, nil
}

// SetXattr sets an xattr; value is copied. Ctime becomes now. Errors: ErrNotFound, ErrExist, ErrNoXattr, ErrXattrTooBig, ErrXattrList,
// ErrNameTooLong, ErrBadName, ErrInvalid (flags), ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) SetXattr(ctx context.Context, ino Ino, name string, value []byte, flags XattrFlags) error {
	_, err := s.SetXattrWith(ctx, ino, name, value, flags, nil)
	return err
}

// SetXattrWith is SetXattr and SetAttr in one transaction, for ACLs that change the mode. fn as in SetAttr; nil changes nothing but Ctime.
// The new attributes are returned.
func (s *Store) SetXattrWith(ctx context.Context, ino Ino, name string, value []byte, flags XattrFlags, fn func(a *Attr) error) (*Attr, error) {
	return s.changeXattrs(ctx, "set xattr", ino, func(tx *Tx, zk *ZoneKeys, e *txAttr) error {
		if fn != nil {
			a := e.cur.Clone()
			if err := fn(a); err != nil {
				return err
			}
			if err := tx.PutAttr(a); err != nil {
				return err
			}
		}
		return tx.setXattr(zk, tx.edit(e), name, value, flags)
	})
}

// RemoveXattr removes an xattr. Ctime becomes now. Errors: ErrNotFound, ErrNoXattr, ErrNameTooLong, ErrBadName, ErrKeyUnavailable,
// ErrKeyRevoked.
func (s *Store) RemoveXattr(ctx context.Context, ino Ino, name string) error {
	if err := checkXattrName(name); err != nil {
		return wrapIno("remove xattr", ino, err)
	}
	_, err := s.changeXattrs(ctx, "remove xattr", ino, func(tx *Tx, zk *ZoneKeys, e *txAttr) error {
		_, ok, err := tx.xattr(zk, ino, name)
		if err != nil {
			return err
		}
		if !ok {
			return ErrNoXattr
		}
		tx.w.Delete(xattrKey(ino, zk.xattrTag(ino, name)))
		a := tx.edit(e)
		if need := uint32(len(name) + 1); a.XattrList < need {
			return fmt.Errorf("xattr list of %d bytes is too short: %w", a.XattrList, ErrCorrupt)
		}
		a.XattrList -= uint32(len(name) + 1)
		a.Flags &^= aclFlag(name)
		if a.XattrList == 0 {
			a.Flags &^= FlagXattr
		}
		return nil
	})
	return err
}

// changeXattrs runs fn in a transaction with the inode and the keys of its zone.
func (s *Store) changeXattrs(ctx context.Context, op string, ino Ino, fn func(*Tx, *ZoneKeys, *txAttr) error) (*Attr, error) {
	if err := s.warm(ctx, ino); err != nil {
		return nil, wrapIno(op, ino, err)
	}
	var e *txAttr
	_, err := s.Update(ctx, func(tx *Tx) error {
		var err error
		if e, err = tx.load(ino); err != nil {
			return err
		}
		zk, err := s.zoneKeys(ctx, e.cur.Zone)
		if err != nil {
			return err
		}
		if err := fn(tx, zk, e); err != nil {
			return err
		}
		tx.edit(e).Ctime = tx.now
		return nil
	})
	if err != nil {
		return nil, wrapIno(op, ino, err)
	}
	return e.cur.Clone(), nil
}

// setXattr writes an xattr of a, which is the transaction's own.
func (tx *Tx) setXattr(zk *ZoneKeys, a *Attr, name string, value []byte, flags XattrFlags) error {
	if err := checkXattrName(name); err != nil {
		return err
	}
	if flags&^(XattrCreate|XattrReplace) != 0 || flags == XattrCreate|XattrReplace {
		return fmt.Errorf("xattr flags %#x: %w", flags, ErrInvalid)
	}
	if len(value) > MaxXattrValue {
		return ErrXattrTooBig
	}
	old, ok, err := tx.xattr(zk, a.Ino, name)
	switch {
	case err != nil:
		return err
	case ok && flags == XattrCreate:
		return ErrExist
	case !ok && flags == XattrReplace:
		return ErrNoXattr
	case ok && bytes.Equal(old, value):
		return nil
	case !ok && a.XattrList+uint32(len(name)+1) > MaxXattrList:
		return ErrXattrList
	}
	key := xattrKey(a.Ino, zk.xattrTag(a.Ino, name))
	sealed, err := sealRow(zk.Names, tx.s.volume, key, encodeXattr(name, value))
	if err != nil {
		return err
	}
	tx.w.Put(key, sealed)
	if !ok {
		a.XattrList += uint32(len(name) + 1)
		a.Flags |= FlagXattr | aclFlag(name)
	}
	return nil
}
