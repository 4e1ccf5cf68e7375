package meta

import (
	"context"
	"errors"
	"fmt"
)

// removeBatch is how many rows of a removed inode go in one transaction, if the KV store takes so many.
const removeBatch = 512

// deleteRows deletes up to limit rows that belong to an inode: map, images, xattrs. more says that some are left.
func (tx *Tx) deleteRows(a *Attr, limit int) (more bool, err error) {
	kinds := []byte{kindXattr}
	if a.XattrList == 0 {
		kinds = kinds[:0]
	}
	if a.Layout == LayoutSlots {
		kinds = append(kinds, kindMap, kindImage)
	}
	for _, kind := range kinds {
		prefix := inoKey(kind, a.Ino)
		var keys [][]byte
		err := tx.r.Scan(tx.ctx, prefix, afterPrefix(prefix), limit+1, func(k, _ []byte) bool {
			keys = append(keys, append([]byte(nil), k...))
			return true
		})
		if err != nil {
			return false, fmt.Errorf("remove rows of inode %d: %w", a.Ino, err)
		}
		more = len(keys) > limit
		for _, k := range keys[:min(len(keys), limit)] {
			tx.w.Delete(k)
		}
		if more {
			return true, nil
		}
		limit -= len(keys)
	}
	return false, nil
}

// removeInode deletes the row of an inode whose rows deleteRows has deleted, and what else there is one of. Its object becomes garbage.
func (tx *Tx) removeInode(e *txAttr) error {
	a := e.cur
	switch {
	case a.Layout == LayoutInline:
		tx.w.Delete(inoKey(kindInline, a.Ino))
	case a.Layout == LayoutSlots:
		for _, p := range a.Planes() {
			if err := tx.PutGarbage(Garbage{Ino: a.Ino, Serial: p.Serial, Op: GarbageObject}); err != nil {
				return err
			}
		}
	case a.Type() == ModeSymlink:
		tx.w.Delete(inoKey(kindSymlink, a.Ino))
	}
	if a.Flags.Orphan() {
		tx.w.Delete(inoKey(kindOrphan, a.Ino))
	}
	tx.remove(e)
	return nil
}

// ReleaseOrphan removes everything of an orphan: map, images, inline content, xattrs, target, its row; a GarbageObject record for its object
// is put with the last step. A large file takes several transactions; after a crash between them ReleaseOrphan goes on where it was.
// Releasing an inode that is gone or has a name is no error. It needs no zone keys.
func (s *Store) ReleaseOrphan(ctx context.Context, ino Ino) error {
	for more := true; more; {
		_, err := s.Update(ctx, func(tx *Tx) error {
			more = false
			e, err := tx.load(ino)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil || !e.cur.Flags.Orphan() {
				return err
			}
			if more, err = tx.deleteRows(e.cur, s.batch); err != nil {
				return err
			}
			if !more {
				return tx.removeInode(e)
			}
			tx.edit(e).Flags &^= FlagLinkable
			return nil
		})
		if err != nil {
			return wrapIno("release orphan: remove", ino, err)
		}
	}
	return nil
}

// Orphans calls fn for every orphan until it returns an error, which is returned. fn may call ReleaseOrphan. At mount all orphans are left
// over from a crash.
func (s *Store) Orphans(ctx context.Context, fn func(Ino) error) error {
	const page = 256
	for lo := []byte{kindOrphan}; lo != nil; {
		var inos []Ino
		var failed error
		err := s.View(ctx, func(tx *Tx) error {
			return tx.r.Scan(ctx, lo, []byte{kindOrphan + 1}, page, func(k, v []byte) bool {
				var ino Ino
				ino, failed = s.openOrphan(k, v)
				inos = append(inos, ino)
				return failed == nil
			})
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return fmt.Errorf("scan orphans: %w", err)
		}
		for _, ino := range inos {
			if err := fn(ino); err != nil {
				return err
			}
		}
		lo = nil
		if len(inos) == page {
			lo = append(inoKey(kindOrphan, inos[page-1]), 0)
		}
	}
	return nil
}

func (s *Store) openOrphan(key, sealed []byte) (Ino, error) {
	ino, ok := parseIno(kindOrphan, key)
	if !ok {
		return 0, fmt.Errorf("orphan key: %w", ErrCorrupt)
	}
	plain, err := s.rows.open(key, sealed)
	if err == nil {
		err = decodeMark(plain, "orphan")
	}
	return ino, err
}
