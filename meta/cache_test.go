package meta

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

func attrCacheKey(ino Ino) cacheKey { return cacheKey{kind: kindAttr, ino: ino} }

// cached returns the inode number that was stored as a value, or 0.
func cached(c *rowCache, k cacheKey) Ino {
	v, _ := c.get(k)
	if v == nil {
		return 0
	}
	return v.(*Attr).Ino
}

func TestCacheIsNeverStale(t *testing.T) {
	k := attrCacheKey(1)
	old, fresh := &Attr{Ino: 100}, &Attr{Ino: 200}
	for _, c := range []struct {
		what string
		do   func(c *rowCache)
		want Ino
	}{
		{"a reader's row", func(c *rowCache) { c.insert(k, old, stamp{}, 5) }, 100},
		{"a row is hidden while it is being written", func(c *rowCache) { c.insert(k, old, stamp{}, 5); c.hold(k) }, 0},
		{"a reader cannot insert meanwhile", func(c *rowCache) { c.hold(k); c.insert(k, old, stamp{}, 9) }, 0},
		{"the commit inserts", func(c *rowCache) { c.hold(k); c.release(k, fresh, stamp{}, 6) }, 200},
		{"a late reader with an old snapshot", func(c *rowCache) { c.hold(k); c.release(k, nil, stamp{}, 6); c.insert(k, old, stamp{}, 5) }, 0},
		{"a reader with the commit's snapshot", func(c *rowCache) { c.hold(k); c.release(k, nil, stamp{}, 6); c.insert(k, fresh, stamp{}, 6) }, 200},
		{"a commit that failed", func(c *rowCache) { c.hold(k); c.release(k, fresh, stamp{}, 0) }, 0},
		{"and a reader after it", func(c *rowCache) { c.hold(k); c.release(k, nil, stamp{}, 0); c.insert(k, old, stamp{}, 5) }, 100},
		{"two commits, told in the wrong order", func(c *rowCache) {
			c.hold(k)
			c.hold(k)
			c.release(k, fresh, stamp{}, 7)
			c.release(k, old, stamp{}, 6)
		}, 0},
		{"two commits, told in order", func(c *rowCache) {
			c.hold(k)
			c.hold(k)
			c.release(k, old, stamp{}, 6)
			c.release(k, fresh, stamp{}, 7)
		}, 200},
		{"a deleted row", func(c *rowCache) { c.insert(k, old, stamp{}, 5); c.hold(k); c.release(k, nil, stamp{}, 6) }, 0},
	} {
		cache := newRowCache(1000)
		c.do(cache)
		if got := cached(cache, k); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
		if s := cache.shard(&k); s.held[k] < 0 {
			t.Errorf("%s: held %d", c.what, s.held[k])
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	const limit = 256
	c := newRowCache(limit)
	for i := range Ino(5000) {
		c.insert(attrCacheKey(i), &Attr{Ino: i}, stamp{}, 1)
		c.get(attrCacheKey(7)) // stays warm
		if i%3 == 0 {
			c.hold(attrCacheKey(i))
			c.release(attrCacheKey(i), nil, stamp{}, 1)
		}
	}
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		n += len(s.index)
		if len(s.entries) > s.limit || len(s.held) != 0 {
			t.Fatalf("shard %d: %d entries of %d, %d held", i, len(s.entries), s.limit, len(s.held))
		}
		for k, at := range s.index {
			if s.entries[at].key != k || s.entries[at].value == nil {
				t.Fatalf("index of %v leads to %v", k, s.entries[at])
			}
		}
	}
	if n > limit || n < limit/4 {
		t.Fatalf("%d rows cached, limit %d", n, limit)
	}
	if cached(c, attrCacheKey(7)) != 7 {
		t.Error("the row in use was evicted")
	}
}

func TestNoCache(t *testing.T) {
	c := newRowCache(-1)
	k := attrCacheKey(1)
	c.insert(k, &Attr{}, stamp{}, 1)
	c.hold(k)
	c.release(k, &Attr{}, stamp{}, 2)
	if v, _ := c.get(k); v != nil {
		t.Fatal("a row was cached")
	}
}

func TestCommitClock(t *testing.T) {
	var c commitClock
	for _, rev := range []kv.Rev{3, 2, 5, 4} {
		c.advance(rev)
	}
	if c.last() != 5 {
		t.Fatal(c.last())
	}
}
