package meta

import (
	"sync/atomic"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// commitClock keeps the newest revision committed, and how many transactions with changes have begun to commit and were done with it, whatever came of them.
type commitClock struct {
	rev, begun, ended atomic.Uint64
	news              chan struct{} // capacity 1; full when something was committed since it was received from
}

// still runs read and tells whether nothing was being committed meanwhile: then whatever it saw in the cache is of one state of the volume.
func (c *commitClock) still(read func()) bool {
	ended := c.ended.Load() // before begun, which is never less
	if begun := c.begun.Load(); begun == ended {
		read()
		return c.begun.Load() == begun
	}
	return false
}

func (c *commitClock) last() kv.Rev { return kv.Rev(c.rev.Load()) }

func (c *commitClock) advance(rev kv.Rev) {
	defer func() {
		select {
		case c.news <- struct{}{}:
		default:
		}
	}()
	for {
		old := c.rev.Load()
		if uint64(rev) <= old || c.rev.CompareAndSwap(old, uint64(rev)) {
			return
		}
	}
}

// txDentry is a dentry row that a transaction wrote; value is nil if it deleted it.
type txDentry struct {
	key   cacheKey
	value *dentry
	stamp stamp
}

// hold announces to the cache what the transaction is about to commit.
func (tx *Tx) hold() {
	tx.s.commit.begun.Add(1)
	for ino, e := range tx.attrs {
		if e.dirty {
			tx.s.cache.hold(cacheKey{kind: kindAttr, ino: ino})
		}
	}
	for i := range tx.names {
		tx.s.cache.hold(tx.names[i].key)
	}
	tx.held = true
}

// release tells the cache the outcome: the revision committed, or 0. A nil or unflushed transaction holds nothing.
func (tx *Tx) release(rev kv.Rev) {
	if tx == nil || !tx.held {
		return
	}
	tx.held = false
	defer tx.s.commit.ended.Add(1)
	for ino, e := range tx.attrs {
		if !e.dirty {
			continue
		}
		var value any
		if e.cur != nil {
			value = e.cur
		}
		tx.s.cache.release(cacheKey{kind: kindAttr, ino: ino}, value, e.stamp, rev)
	}
	for i := range tx.names {
		n := &tx.names[i]
		var value any
		if n.value != nil {
			value = n.value
		}
		tx.s.cache.release(n.key, value, n.stamp, rev)
	}
}
