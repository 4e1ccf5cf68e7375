package meta

import (
	"context"
	"fmt"
)

// NewZoneID returns a number that no zone of the volume has had.
func (s *Store) NewZoneID(ctx context.Context) (ZoneID, error) {
	ino, err := s.newIno(ctx) // one counter for both: numbers of inodes are never used twice either
	return ZoneID(ino), err
}

// MakeZone makes a directory, with all below it down to directories of other zones, a new zone: row, policy (nil: none), and names, targets, xattrs and file keys under the
// new keys, in one transaction. z is as NewZone and the caller made it, keys are z's, and (parent, name) is the place that its wraps were made for. It returns the regular files, whose contents
// are sealed under keys that the zone around has wrapped.
//
// Errors: ErrExist (it is a zone's already), ErrTooMany, ErrCrossZone (a file below has a name elsewhere), ErrNotDir, ErrNotFound, ErrStale (it is at another place by now), ErrInvalid
// (z, or the root), ErrFileKeys (there are files, and a CMK wraps data keys itself on either side), ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) MakeZone(ctx context.Context, z *Zone, keys *ZoneKeys, parent Ino, name, document []byte) (files []Ino, err error) {
	if z.Dir == RootIno {
		return nil, fmt.Errorf("make zone %d of the root: %w", z.ID, ErrInvalid)
	}
	if err := z.check(); err != nil {
		return nil, fmt.Errorf("make zone %d of inode %d: %w: %w", z.ID, z.Dir, ErrInvalid, err)
	}
	if err := s.warm(ctx, parent); err != nil {
		return nil, fmt.Errorf("make zone %d: %w", z.ID, err)
	}
	_, err = s.Update(ctx, func(tx *Tx) error {
		dir, err := tx.liveDir(z.Dir)
		if err != nil {
			return err
		}
		above, err := tx.load(dir.cur.Parent)
		if err != nil {
			return missing(err)
		}
		if dir.cur.Zone != above.cur.Zone {
			return ErrExist
		}
		old, err := s.zoneKeys(ctx, dir.cur.Zone)
		if err != nil {
			return err
		}
		if dir.cur.Parent != parent || dir.cur.Tag != old.nameTag(parent, name) {
			return fmt.Errorf("the directory was moved: %w", ErrStale)
		}
		if files, err = tx.rezone(dir, old, keys, z.ID); err != nil {
			return err
		}
		if z.ByCMK() && len(files) > 0 {
			return fmt.Errorf("there are files in it: %w", ErrFileKeys)
		}
		row := *z
		return tx.putZoneAndPolicy(&row, document)
	})
	if err != nil {
		return nil, fmt.Errorf("make zone %d of inode %d: %w", z.ID, z.Dir, errTree(err))
	}
	return files, nil
}

// DissolveZone gives a zone's directory, with all below it down to directories of other zones, back to the zone around it, as MakeZone took it. Errors: ErrTooMany, ErrFileKeys, ErrNotFound,
// ErrInvalid (the root zone), ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) DissolveZone(ctx context.Context, id ZoneID) (files []Ino, around ZoneID, err error) {
	z, err := s.Zone(ctx, id)
	if err == nil && id == RootZone {
		err = fmt.Errorf("the root zone: %w", ErrInvalid)
	}
	if err == nil {
		err = s.warm(ctx, z.Dir)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("dissolve zone %d: %w", id, err)
	}
	_, err = s.Update(ctx, func(tx *Tx) error {
		dir, err := tx.liveDir(z.Dir)
		if err != nil {
			return err
		}
		above, err := tx.load(dir.cur.Parent)
		if err != nil {
			return missing(err)
		}
		old, err := s.zoneKeys(ctx, id)
		if err != nil {
			return err
		}
		around = above.cur.Zone
		keys, err := s.zoneKeys(ctx, around)
		if err != nil {
			return err
		}
		if files, err = tx.rezone(dir, old, keys, around); err != nil {
			return err
		}
		tx.deleteZone(id)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("dissolve zone %d: %w", id, errTree(err))
	}
	s.params.drop(id)
	return files, around, nil
}

// rezone puts a directory and what is below it into another zone, and returns the regular files among it.
func (tx *Tx) rezone(dir *txAttr, old, keys *ZoneKeys, to ZoneID) ([]Ino, error) {
	r := &rezoning{tx: tx, from: dir.cur.Zone, to: to, old: old, keys: keys}
	if err := r.tree(dir); err != nil {
		return nil, err
	}
	tx.edit(dir).Ctime = tx.now
	return r.files, nil
}

// rekeyXattrs seals the xattrs of an inode under other keys.
func (tx *Tx) rekeyXattrs(ino Ino, old, keys *ZoneKeys) error {
	type row struct{ key, sealed []byte }
	var rows []row
	prefix := inoKey(kindXattr, ino)
	err := tx.r.Scan(tx.ctx, prefix, afterPrefix(prefix), 0, func(k, v []byte) bool {
		rows = append(rows, row{append([]byte(nil), k...), append([]byte(nil), v...)})
		return true
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		name, value, err := tx.openXattr(old, r.key, r.sealed)
		if err != nil {
			return err
		}
		key := xattrKey(ino, keys.xattrTag(ino, name))
		sealed, err := sealRow(keys.Names, tx.s.volume, key, encodeXattr(name, value))
		if err != nil {
			return err
		}
		tx.w.Delete(r.key)
		tx.w.Put(key, sealed)
	}
	return nil
}

// deleteZone removes the rows of a zone whose directory is no longer in it.
func (tx *Tx) deleteZone(id ZoneID) {
	tx.w.Delete(zoneKey(id))
	tx.w.Delete(policyKey(id))
}

// ZonePlace returns the directory that holds a zone's directory, and its name there: what its wraps are bound to. (0, "/") for the root zone. Errors:
// ErrNotFound, ErrKeyUnavailable and ErrKeyRevoked (of the zone around it).
func (s *Store) ZonePlace(ctx context.Context, z *Zone) (parent Ino, name string, err error) {
	if z.ID == RootZone {
		return 0, "/", nil
	}
	a, err := s.attr(ctx, z.Dir)
	if err == nil {
		err = s.warm(ctx, a.Parent)
	}
	if err != nil {
		return 0, "", fmt.Errorf("find place of zone %d: %w", z.ID, err)
	}
	err = s.View(ctx, func(tx *Tx) error {
		a, err := tx.readAttr(z.Dir)
		if err != nil {
			return err
		}
		if a.Parent == 0 {
			return ErrNotFound
		}
		b, err := tx.primaryName(a)
		parent, name = a.Parent, string(b)
		return err
	})
	if err != nil {
		return 0, "", fmt.Errorf("find place of zone %d: %w", z.ID, err)
	}
	return parent, name, nil
}
