package meta

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
)

// Dirent is a directory entry.
type Dirent struct {
	Name   []byte // the caller's own
	Ino    Ino
	Type   uint32 // file type bits of the mode
	Cookie uint64 // pass it to go on behind this entry: 3 .. 2^63-1, a function of the name alone
}

// DirentPlus is a directory entry with the attributes of its inode.
type DirentPlus struct {
	Dirent
	Attr *Attr
}

// firstCookie is the smallest cookie of an entry: 0 is the start, 1 and 2 are "." and "..".
const firstCookie = 3

// cookieOf returns the cookie of the entry with a tag: the tag's first 63 bits, ascending with the tag, and never below firstCookie.
func cookieOf(tag NameTag) uint64 {
	return max(binary.BigEndian.Uint64(tag[:8])>>1, firstCookie)
}

// Cookie returns the cookie of the inode's primary link among the entries of its directory.
func (a *Attr) Cookie() uint64 { return cookieOf(a.Tag) }

// afterCookie returns the smallest tag of entries behind a cookie; ok is false if there can be none.
func afterCookie(cookie uint64) (tag NameTag, ok bool) {
	if cookie < firstCookie {
		return tag, true
	}
	if cookie >= math.MaxInt64 {
		return tag, false
	}
	binary.BigEndian.PutUint64(tag[:8], (cookie+1)<<1)
	return tag, true
}

// ReadDir returns entries of a directory behind cookie, in ascending order of Cookie, "." and ".." excepted. Cookies 0, 1 and 2 start at the
// first entry (a caller uses 1 and 2 for "." and ".."). At most limit entries (at least 1) are returned, but entries of equal cookie are
// never split, so there may be more. No entries means the end. An entry that exists throughout is seen exactly once by going on from
// cookie to cookie, whatever changes around it. Errors: ErrNotFound, ErrNotDir, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) ReadDir(ctx context.Context, dir Ino, cookie uint64, limit int) ([]Dirent, error) {
	var list []Dirent
	err := s.readDir(ctx, dir, cookie, func(tx *Tx, zk *ZoneKeys, lo []byte) error {
		var err error
		list, err = tx.readDir(zk, dir, lo, limit, false)
		return err
	})
	return list, err
}

// ReadDirPlus is ReadDir with attributes: of inodes that were changed meanwhile, as they are now.
func (s *Store) ReadDirPlus(ctx context.Context, dir Ino, cookie uint64, limit int) ([]DirentPlus, error) {
	var plus []DirentPlus
	err := s.readDir(ctx, dir, cookie, func(tx *Tx, zk *ZoneKeys, lo []byte) error {
		list, err := tx.readDir(zk, dir, lo, limit, true)
		if err != nil {
			return err
		}
		plus, err = tx.withAttrs(list)
		return err
	})
	return plus, err
}

// readDir calls fn in a View with the key of the first entry behind cookie.
func (s *Store) readDir(ctx context.Context, dir Ino, cookie uint64, fn func(tx *Tx, zk *ZoneKeys, lo []byte) error) error {
	a, err := s.attr(ctx, dir)
	if err != nil {
		return wrapIno("read directory", dir, err)
	}
	if !a.IsDir() {
		return wrapIno("read directory", dir, ErrNotDir)
	}
	zk, err := s.zoneKeys(ctx, a.Zone)
	if err != nil {
		return wrapIno("read directory", dir, err)
	}
	tag, ok := afterCookie(cookie)
	if !ok {
		return nil
	}
	return wrapIno("read directory", dir, s.View(ctx, func(tx *Tx) error { return fn(tx, zk, dentryRowKey(dir, tag)) }))
}

// readDir lists the entries from lo on; keep fills the cache with them.
func (tx *Tx) readDir(zk *ZoneKeys, dir Ino, lo []byte, limit int, keep bool) ([]Dirent, error) {
	var list []Dirent
	var failed error
	hi := afterPrefix(inoKey(kindDentry, dir))
	err := tx.r.Scan(tx.ctx, lo, hi, 0, func(k, v []byte) bool {
		_, tag, ok := parseInoTag(kindDentry, k)
		if !ok {
			failed = fmt.Errorf("dentry key: %w", ErrCorrupt)
			return false
		}
		cookie := cookieOf(tag)
		if n := len(list); n >= max(limit, 1) && list[n-1].Cookie != cookie {
			return false
		}
		d, err := tx.dirent(zk, dir, tag, k, v, keep)
		if err != nil {
			failed = err
			return false
		}
		d.Cookie = cookie
		list = append(list, d)
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// dirent opens a dentry row. With keep it fills the cache: whoever is given attributes, too, is likely to go on with the files, whose names the audit log wants then. The
// names alone of a large directory would push everything else out.
func (tx *Tx) dirent(zk *ZoneKeys, dir Ino, tag NameTag, key, sealed []byte, keep bool) (Dirent, error) {
	d, have := tx.s.cache.dentry(dir, tag)
	if d == nil || have != stampOf(sealed) {
		plain, err := openRow(zk.Names, tx.s.volume, key, sealed)
		if err != nil {
			return Dirent{}, err
		}
		opened, err := decodeDentry(plain)
		if err != nil {
			return Dirent{}, err
		}
		if !keep {
			return Dirent{Name: opened.name, Ino: opened.ino, Type: opened.typ}, nil
		}
		d = &opened
		tx.s.cache.insert(cacheKey{kindDentry, dir, tag}, d, stampOf(sealed), tx.Rev())
	}
	return Dirent{Name: bytes.Clone(d.name), Ino: d.ino, Type: d.typ}, nil
}

// withAttrs adds the inodes of entries: what is cached, and the others in one batch.
func (tx *Tx) withAttrs(list []Dirent) ([]DirentPlus, error) {
	plus := make([]DirentPlus, len(list))
	var missing []int
	var keys [][]byte
	for i := range list {
		plus[i].Dirent = list[i]
		if a, _ := tx.s.cache.attr(list[i].Ino); a != nil {
			plus[i].Attr = a.Clone()
			continue
		}
		missing, keys = append(missing, i), append(keys, attrKey(list[i].Ino))
	}
	vals, err := tx.r.Get(tx.ctx, keys...)
	if err != nil {
		return nil, err
	}
	for n, i := range missing {
		if vals[n] == nil {
			return nil, fmt.Errorf("dentry leads to inode %d, which does not exist: %w", list[i].Ino, ErrCorrupt)
		}
		a, err := tx.openAttr(list[i].Ino, keys[n], vals[n])
		if err != nil {
			return nil, err
		}
		plus[i].Attr = a.Clone()
	}
	return plus, nil
}
