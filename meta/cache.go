package meta

import (
	"sync"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// cacheKey names a decoded row: an inode row (tag zero), or a dentry row.
type cacheKey struct {
	kind byte
	ino  Ino
	tag  NameTag
}

// rowCache keeps decoded inode and dentry rows. Values are shared and never changed.
//
// It never holds a row older than the newest commit: a transaction announces the keys it writes before it commits (hold), which drops them
// and keeps readers from inserting; when it is over (release) the new rows go in, unless a newer commit touched the shard meanwhile.
// A reader inserts what it decoded only if nothing was committed in the shard since its snapshot.
type rowCache struct {
	shards []cacheShard // a power of two; empty: nothing is cached
}

type cacheShard struct {
	mu      sync.Mutex
	rev     kv.Rev           // newest commit that touched the shard
	held    map[cacheKey]int // keys of running commits
	index   map[cacheKey]int // place in entries
	entries []cacheEntry     // bounded ring
	hand    int              // next candidate for eviction

	hits, misses uint64
	limit        int
}

type cacheEntry struct {
	key   cacheKey
	value any // *Attr or *dentry
	stamp stamp
	used  bool
}

const cacheShards = 64

func newRowCache(limit int) *rowCache {
	if limit < 0 {
		return &rowCache{}
	}
	c := &rowCache{shards: make([]cacheShard, cacheShards)}
	for i := range c.shards {
		s := &c.shards[i]
		s.held, s.index = make(map[cacheKey]int), make(map[cacheKey]int)
		s.limit = max(limit/cacheShards, 4)
	}
	return c
}

func (c *rowCache) shard(k *cacheKey) *cacheShard {
	h := uint64(k.ino) ^ uint64(k.tag[0])<<8 ^ uint64(k.tag[1])<<16
	h *= 0x9e3779b97f4a7c15
	return &c.shards[h>>58]
}

// get returns a row, or nil.
func (c *rowCache) get(k cacheKey) (any, stamp) {
	if len(c.shards) == 0 {
		return nil, stamp{}
	}
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[k]
	if !ok {
		s.misses++
		return nil, stamp{}
	}
	s.hits++
	e := &s.entries[i]
	e.used = true
	return e.value, e.stamp
}

// attr returns the row of an inode, or nil.
func (c *rowCache) attr(ino Ino) (*Attr, stamp) {
	v, st := c.get(cacheKey{kind: kindAttr, ino: ino})
	a, _ := v.(*Attr)
	return a, st
}

// dentry returns the row of a name, or nil.
func (c *rowCache) dentry(parent Ino, tag NameTag) (*dentry, stamp) {
	v, st := c.get(cacheKey{kindDentry, parent, tag})
	d, _ := v.(*dentry)
	return d, st
}

// counts returns how often a row was there, and was not.
func (c *rowCache) counts() (hits, misses uint64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		hits, misses = hits+s.hits, misses+s.misses
		s.mu.Unlock()
	}
	return hits, misses
}

// insert adds a row that was read from a snapshot of revision rev.
func (c *rowCache) insert(k cacheKey, value any, st stamp, rev kv.Rev) {
	if len(c.shards) == 0 {
		return
	}
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rev > rev || s.held[k] > 0 {
		return
	}
	s.put(k, value, st)
}

// hold announces that a commit will write k.
func (c *rowCache) hold(k cacheKey) {
	if len(c.shards) == 0 {
		return
	}
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[k]++
	s.drop(k)
}

// release ends hold. rev is the commit's revision, 0 if it did not happen; value is the new row, nil if the row is gone or unknown.
func (c *rowCache) release(k cacheKey, value any, st stamp, rev kv.Rev) {
	if len(c.shards) == 0 {
		return
	}
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[k]--; s.held[k] <= 0 {
		delete(s.held, k)
	}
	newest := rev >= s.rev
	s.rev = max(s.rev, rev)
	if rev != 0 && newest && value != nil && s.held[k] == 0 {
		s.put(k, value, st)
	}
}

func (s *cacheShard) put(k cacheKey, value any, st stamp) {
	e := cacheEntry{key: k, value: value, stamp: st}
	if i, ok := s.index[k]; ok {
		s.entries[i] = e
		return
	}
	if len(s.entries) < s.limit {
		s.index[k] = len(s.entries)
		s.entries = append(s.entries, e)
		return
	}
	for s.entries[s.hand].used {
		s.entries[s.hand].used = false
		s.hand = (s.hand + 1) % len(s.entries)
	}
	if old := &s.entries[s.hand]; old.value != nil {
		delete(s.index, old.key)
	}
	s.index[k] = s.hand
	s.entries[s.hand] = e
	s.hand = (s.hand + 1) % len(s.entries)
}

// drop empties the place of k; it is filled by the next eviction.
func (s *cacheShard) drop(k cacheKey) {
	if i, ok := s.index[k]; ok {
		delete(s.index, k)
		s.entries[i] = cacheEntry{}
	}
}
