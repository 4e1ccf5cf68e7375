package meta

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// attr returns the shared row of an inode: from the cache, or from a snapshot.
func (s *Store) attr(ctx context.Context, ino Ino) (*Attr, error) {
	if a, _ := s.cache.attr(ino); a != nil {
		return a, nil
	}
	var a *Attr
	err := s.kv.View(ctx, func(r kv.Reader) error {
		var err error
		a, err = newTx(s, ctx, r, nil).readAttr(ino)
		return err
	})
	return a, err
}

// openAttr returns the decoded form of a sealed inode row: the cache's, if that is of the same sealed value.
func (tx *Tx) openAttr(ino Ino, key, sealed []byte) (*Attr, error) {
	ck, st := cacheKey{kind: kindAttr, ino: ino}, stampOf(sealed)
	if a, have := tx.s.cache.attr(ino); a != nil && have == st && !tx.passing {
		return a, nil
	}
	plain, err := tx.s.rows.open(key, sealed)
	if err != nil {
		return nil, fmt.Errorf("read inode %d: %w", ino, err)
	}
	a, err := decodeAttr(ino, plain)
	if err != nil {
		return nil, fmt.Errorf("read inode %d: %w", ino, err)
	}
	if !tx.passing {
		tx.s.cache.insert(ck, a, st, tx.Rev())
	}
	return a, nil
}

// zoneKeys returns the keys of a zone if they may be used now.
func (s *Store) zoneKeys(ctx context.Context, id ZoneID) (*ZoneKeys, error) {
	if s.keys == nil {
		return nil, fmt.Errorf("zone %d: opened without keys: %w", id, ErrKeyUnavailable)
	}
	zk, err := s.keys.Zone(ctx, id)
	if err == nil && zk.Valid != nil {
		err = zk.Valid()
	}
	if err != nil {
		return nil, fmt.Errorf("zone %d: %w", id, err)
	}
	return zk, nil
}

// warm fetches the keys of an inode's zone outside a transaction, so that the key manager is not waited for inside one.
func (s *Store) warm(ctx context.Context, ino Ino) error {
	a, err := s.attr(ctx, ino)
	if err != nil {
		return err
	}
	_, err = s.zoneKeys(ctx, a.Zone)
	return err
}

func (zk *ZoneKeys) nameTag(parent Ino, name []byte) NameTag {
	return zk.Hash.Tag(blockcrypt.NameDentry, uint64(parent), name)
}

func (zk *ZoneKeys) xattrTag(ino Ino, name string) NameTag {
	return zk.Hash.Tag(blockcrypt.NameXattr, uint64(ino), []byte(name))
}

func (s *Store) lookup(ctx context.Context, parent Ino, name []byte) (*Attr, error) {
	dir, err := s.attr(ctx, parent)
	if err != nil {
		return nil, err
	}
	if !dir.IsDir() {
		return nil, ErrNotDir
	}
	switch string(name) {
	case ".":
		return dir.Clone(), nil
	case "..":
		return s.Getattr(ctx, dir.Parent)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	zk, err := s.zoneKeys(ctx, dir.Zone)
	if err != nil {
		return nil, err
	}
	tag := zk.nameTag(parent, name)
	if a := s.cachedLookup(parent, tag, name); a != nil {
		return a.Clone(), nil
	}
	var a *Attr
	err = s.kv.View(ctx, func(r kv.Reader) error {
		tx := newTx(s, ctx, r, nil)
		d, err := tx.dentry(zk, parent, tag, name)
		if err != nil {
			return err
		}
		if a, err = tx.readAttr(d.ino); err != nil {
			return fmt.Errorf("dentry leads to inode %d: %w", d.ino, missing(err))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.Clone(), nil
}

// cachedLookup answers from the cache alone, or returns nil.
func (s *Store) cachedLookup(parent Ino, tag NameTag, name []byte) *Attr {
	d, _ := s.cache.dentry(parent, tag)
	if d == nil || !bytes.Equal(d.name, name) {
		return nil
	}
	a, _ := s.cache.attr(d.ino)
	return a
}

// dentry reads a dentry row; the result is shared. ErrNotFound if there is none.
func (tx *Tx) dentry(zk *ZoneKeys, parent Ino, tag NameTag, name []byte) (*dentry, error) {
	key := dentryRowKey(parent, tag)
	sealed, err := tx.get(key)
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return nil, ErrNotFound
	}
	d, err := tx.openDentry(zk, parent, tag, key, sealed)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(d.name, name) {
		return nil, fmt.Errorf("dentry in inode %d has another name than its tag says: %w", parent, ErrCorrupt)
	}
	return d, nil
}

// openDentry returns the decoded form of a sealed dentry row; shared.
func (tx *Tx) openDentry(zk *ZoneKeys, parent Ino, tag NameTag, key, sealed []byte) (*dentry, error) {
	ck, st := cacheKey{kindDentry, parent, tag}, stampOf(sealed)
	if d, have := tx.s.cache.dentry(parent, tag); d != nil && have == st {
		return d, nil
	}
	plain, err := openRow(zk.Names, tx.s.volume, key, sealed)
	if err != nil {
		return nil, err
	}
	d, err := decodeDentry(plain)
	if err != nil {
		return nil, err
	}
	if len(tx.names) == 0 { // else the row may be this transaction's own, not yet committed
		tx.s.cache.insert(ck, &d, st, tx.Rev())
	}
	return &d, nil
}
