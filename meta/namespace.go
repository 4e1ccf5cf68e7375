package meta

import (
	"bytes"
	"context"
	"fmt"
)

// DefaultBlockSize and DefaultInline are the parameters of a new zone, until measurements say otherwise in an ADR.
const (
	DefaultBlockSize = 4096
	DefaultInline    = 4096
)

// checkName refuses what can be no name in a directory: ErrBadName, ErrNameTooLong.
func checkName(name []byte) error {
	switch {
	case len(name) == 0, bytes.IndexByte(name, '/') >= 0, bytes.IndexByte(name, 0) >= 0:
		return ErrBadName
	case len(name) > MaxName:
		return ErrNameTooLong
	case string(name) == ".", string(name) == "..":
		return ErrBadName
	}
	return nil
}

// Lookup returns the attributes of the inode that name leads to in directory parent; "." and ".." are understood, and the root's ".." is
// the root. Errors: ErrNotFound (no such name, or parent is gone), ErrNotDir, ErrNameTooLong, ErrBadName, ErrKeyUnavailable,
// ErrKeyRevoked.
func (s *Store) Lookup(ctx context.Context, parent Ino, name []byte) (*Attr, error) {
	a, err := s.lookup(ctx, parent, name)
	if err != nil {
		return nil, fmt.Errorf("look up in inode %d: %w", parent, err)
	}
	return a, nil
}

// Getattr returns the attributes of an inode. ErrNotFound.
func (s *Store) Getattr(ctx context.Context, ino Ino) (*Attr, error) {
	a, err := s.attr(ctx, ino)
	if err != nil {
		return nil, err
	}
	return a.Clone(), nil
}

// SetAttr reads an inode, lets fn change it, and writes it, in one transaction. fn may run more than once and must not keep a. If fn leaves
// Ctime alone it becomes now. fn may change what PutAttr lets change. If fn returns an error nothing is written and SetAttr returns
// it. The new attributes are returned. Errors: ErrNotFound, ErrInvalid, fn's.
func (s *Store) SetAttr(ctx context.Context, ino Ino, fn func(a *Attr) error) (*Attr, error) {
	var e *txAttr
	_, err := s.Update(ctx, func(tx *Tx) error {
		var err error
		if e, err = tx.load(ino); err != nil {
			return err
		}
		a := e.cur.Clone()
		if err := fn(a); err != nil {
			return err
		}
		if a.Ctime == e.cur.Ctime {
			a.Ctime = tx.now
		}
		return tx.PutAttr(a)
	})
	if err != nil {
		return nil, wrapIno("set attributes", ino, err)
	}
	return e.cur.Clone(), nil
}
