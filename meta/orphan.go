package meta

import (
	"context"
	"errors"
	"fmt"
)

// removeBatch is how many rows of a removed inode go in one transaction, if the KV store takes so many.
const removeBatch = 512

// releasedTogether is how many orphans go in one transaction at most.
const releasedTogether = 32

// ownRows is how many rows an inode has at most beside those that deleteRows deletes, garbage for its objects included.
const ownRows = 6

// deleteRows deletes up to limit rows that belong to an inode: map, images, xattrs. n is how many; more says that some are left.
func (tx *Tx) deleteRows(a *Attr, limit int) (n int, more bool, err error) {
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
			return n, false, fmt.Errorf("remove rows of inode %d: %w", a.Ino, err)
		}
		more = len(keys) > limit
		for _, k := range keys[:min(len(keys), limit)] {
			tx.w.Delete(k)
			n++
		}
		if more {
			return n, true, nil
		}
		limit -= len(keys)
	}
	return n, false, nil
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

// ReleaseOrphans removes everything of orphans: map, images, inline content, xattrs, target, row; a GarbageObject record for each object is put with the last step.
// Several small files go in one transaction, a large one takes several; after a crash between them ReleaseOrphans goes on where it was. Releasing an inode that
// is gone or has a name is no error. It needs no zone keys.
func (s *Store) ReleaseOrphans(ctx context.Context, inos ...Ino) error {
	for len(inos) > 0 {
		done := 0
		_, err := s.Update(ctx, func(tx *Tx) (err error) {
			done, err = tx.releaseOrphans(inos[:min(len(inos), releasedTogether)])
			return err
		})
		if err != nil {
			return wrapIno("release orphan: remove", inos[0], err)
		}
		inos = inos[done:]
	}
	return nil
}

// releaseOrphans removes as many of the first orphans as one transaction takes, and at least a part of the first. It returns how many are done with.
func (tx *Tx) releaseOrphans(inos []Ino) (done int, err error) {
	for left := tx.s.batch; done < len(inos) && (done == 0 || left > 2*ownRows); done++ {
		e, err := tx.load(inos[done])
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return done, err
		}
		if !e.cur.Flags.Orphan() {
			continue
		}
		n, more, err := tx.deleteRows(e.cur, left)
		if err != nil {
			return done, err
		}
		if more {
			tx.edit(e).Flags &^= FlagLinkable
			return done, nil
		}
		if err := tx.removeInode(e); err != nil {
			return done, err
		}
		left -= n + ownRows
	}
	return done, nil
}

// Orphans calls fn for every orphan until it returns an error, which is returned. fn may call ReleaseOrphans. At mount all orphans are left
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
