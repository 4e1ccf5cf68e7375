package meta

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// validTarget reports whether t can be a symlink's target.
func validTarget(t []byte) bool {
	return len(t) > 0 && len(t) <= MaxTarget && bytes.IndexByte(t, 0) < 0
}

// Readlink returns the target of a symlink; the slice is the caller's. Errors: ErrNotFound, ErrInvalid (no symlink), ErrKeyUnavailable,
// ErrKeyRevoked.
func (s *Store) Readlink(ctx context.Context, ino Ino) ([]byte, error) {
	target, err := s.readlink(ctx, ino)
	return target, wrapIno("read link", ino, err)
}

func (s *Store) readlink(ctx context.Context, ino Ino) ([]byte, error) {
	a, err := s.attr(ctx, ino)
	if err != nil {
		return nil, err
	}
	if a.Type() != ModeSymlink {
		return nil, ErrInvalid
	}
	zk, err := s.zoneKeys(ctx, a.Zone)
	if err != nil {
		return nil, err
	}
	var target []byte
	err = s.View(ctx, func(tx *Tx) error {
		key := inoKey(kindSymlink, ino)
		sealed, err := tx.get(key)
		if err != nil {
			return err
		}
		if sealed == nil {
			return fmt.Errorf("symlink without target: %w", ErrCorrupt)
		}
		plain, err := openRow(zk.Names, s.volume, key, sealed)
		if err != nil {
			return err
		}
		target, err = decodeTarget(plain)
		return err
	})
	return target, err
}

// Path returns the absolute path of an inode by its primary links. ErrNotFound for an orphan or what lies below one; ErrKeyUnavailable,
// ErrKeyRevoked.
func (s *Store) Path(ctx context.Context, ino Ino) ([]byte, error) {
	var path []byte
	if s.commit.still(func() { path = s.cachedPath(ctx, ino) }) && path != nil {
		return path, nil
	}
	err := s.View(ctx, func(tx *Tx) error {
		var err error
		path, err = tx.path(ino)
		return err
	})
	return path, wrapIno("find path", ino, err)
}

// cachedPath is Path from the cache alone, nil where that does not have the rows. It is of one state only if nothing is committed meanwhile.
func (s *Store) cachedPath(ctx context.Context, ino Ino) []byte {
	var names [][]byte
	for at := ino; at != RootIno; {
		dir, name := s.cachedPlace(ctx, at)
		if name == nil || len(names) == maxDepth {
			return nil
		}
		names, at = append(names, name), dir
	}
	return joined(names)
}

// joined makes a path of names, the last one first.
func joined(names [][]byte) []byte {
	slices.Reverse(names)
	return append([]byte{'/'}, bytes.Join(names, []byte{'/'})...)
}

func (tx *Tx) path(ino Ino) ([]byte, error) {
	var names [][]byte
	for at := ino; at != RootIno; {
		if len(names) == maxDepth {
			return nil, fmt.Errorf("walk to the root does not end: %w", ErrCorrupt)
		}
		a, err := tx.readAttr(at)
		if err != nil {
			return nil, err
		}
		if a.Parent == 0 {
			return nil, ErrNotFound
		}
		name, err := tx.primaryName(a)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		at = a.Parent
	}
	return joined(names), nil
}

// Place returns where the primary link of an inode is: its directory, and its name there. The root's is in directory 0, without a name. ErrNotFound for an inode that has none.
func (s *Store) Place(ctx context.Context, ino Ino) (dir Ino, name []byte, err error) {
	if ino == RootIno {
		return 0, nil, nil
	}
	if dir, name = s.cachedPlace(ctx, ino); name != nil {
		return dir, name, nil
	}
	err = s.View(ctx, func(tx *Tx) error {
		a, err := tx.readAttr(ino)
		if err != nil {
			return err
		}
		if a.Parent == 0 {
			return ErrNotFound
		}
		shared, err := tx.primaryName(a)
		dir, name = a.Parent, slices.Clone(shared)
		return err
	})
	return dir, name, wrapIno("find the place of", ino, err)
}

// cachedPlace is Place from the cache alone; name is nil where that does not have the rows, or the zone's keys may not be used.
func (s *Store) cachedPlace(ctx context.Context, ino Ino) (dir Ino, name []byte) {
	a, _ := s.cache.attr(ino)
	if a == nil || a.Parent == 0 {
		return 0, nil
	}
	parent, _ := s.cache.attr(a.Parent)
	d, _ := s.cache.dentry(a.Parent, a.Tag)
	if parent == nil || d == nil || d.ino != ino {
		return 0, nil
	}
	if _, err := s.zoneKeys(ctx, parent.Zone); err != nil {
		return 0, nil
	}
	return a.Parent, slices.Clone(d.name)
}

// primaryName reads the name of an inode's primary link; shared.
func (tx *Tx) primaryName(a *Attr) ([]byte, error) {
	dir, err := tx.readAttr(a.Parent)
	if err != nil {
		return nil, err
	}
	zk, err := tx.s.zoneKeys(tx.ctx, dir.Zone)
	if err != nil {
		return nil, err
	}
	key := dentryRowKey(a.Parent, a.Tag)
	sealed, err := tx.get(key)
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return nil, fmt.Errorf("primary link of inode %d is missing: %w", a.Ino, ErrCorrupt)
	}
	d, err := tx.openDentry(zk, a.Parent, a.Tag, key, sealed)
	if err != nil {
		return nil, err
	}
	if d.ino != a.Ino {
		return nil, fmt.Errorf("primary link of inode %d leads to inode %d: %w", a.Ino, d.ino, ErrCorrupt)
	}
	return d.name, nil
}
