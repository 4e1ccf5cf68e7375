package local

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/google/btree"
)

const overlayDegree = 32

// version is what one transaction made of a key.
type version struct {
	seq     uint64
	value   []byte   // nil if deleted or journal-only
	loc     location // of a journal-only value; loc.seg is nil otherwise
	deleted bool
	older   *version
}

// chain holds the versions of one key, newest first.
type chain struct {
	key    []byte
	newest version
}

// item is a chain in the tree. The first 16 bytes of its key (padded with zeros) lie beside the pointer, so
// that most comparisons touch the tree's node alone.
type item struct {
	high, low uint64
	*chain
}

func itemFor(c *chain) item {
	if len(c.key) >= 16 {
		return item{binary.BigEndian.Uint64(c.key), binary.BigEndian.Uint64(c.key[8:]), c}
	}
	var head [16]byte
	copy(head[:], c.key)
	return item{binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint64(head[8:]), c}
}

func itemLess(a, b item) bool {
	if a.high != b.high {
		return a.high < b.high
	}
	if a.low != b.low {
		return a.low < b.low
	}
	return bytes.Compare(a.key, b.key) < 0
}

// generation is an overlay: the changes between two freezes. The store has an active one, and while a
// checkpoint runs a frozen one, which nobody changes.
//
// INVARIANT: every version in a generation is younger than all in the one before it.
type generation struct {
	number uint64
	// next is the generation that took over when this one was frozen. It lets a transaction find all that
	// was committed since its snapshot, whatever checkpoints have finished meanwhile.
	next atomic.Pointer[generation]

	mu      sync.RWMutex // held for moments only; the holder of Store.commit is the only writer
	tree    *btree.BTreeG[item]
	bytes   int64 // that keys and values take in memory, about
	beyond  bool  // it may grow beyond its bound, because a checkpoint failed; the holder of Store.commit's
	scratch probe // the writer's

	// refs counts the Store and the Views that may read from here. While it is not zero, the journal
	// segments that the generation points into stay. Guarded by Store.mu.
	refs int
}

func newGeneration(number uint64) *generation {
	return &generation{number: number, tree: btree.NewG(overlayDegree, itemLess), refs: 1}
}

// probe is a key to look for, used again and again by one goroutine.
type probe struct{ chain }

func (p *probe) at(key []byte) item {
	p.key = key
	return itemFor(&p.chain)
}

// insert adds a version; the caller holds g.mu. Versions that no snapshot at or after sequence keep can see are dropped: of those
// up to keep only the newest stays.
func (g *generation) insert(key []byte, v version, keep uint64) {
	c, ok := g.tree.Get(g.scratch.at(key))
	if !ok {
		g.add(key, v)
		return
	}
	g.bytes += v.bytes()
	older := c.newest
	v.older = &older
	c.newest = v
	for p := v.older; p != nil; p = p.older {
		if p.seq > keep {
			continue
		}
		for dropped := p.older; dropped != nil; dropped = dropped.older {
			g.bytes -= dropped.bytes()
		}
		p.older = nil
	}
}

func (g *generation) add(key []byte, v version) {
	g.tree.ReplaceOrInsert(itemFor(&chain{key: key, newest: v}))
	g.bytes += int64(len(key)) + v.bytes()
}

// versionBytes is what a version takes beside its value, with its share of the tree.
const versionBytes = 160

func (v *version) bytes() int64 { return int64(len(v.value)) + versionBytes }

// replace sets the only version of a key, where no snapshot is in use.
func (g *generation) replace(key []byte, v version) {
	c, ok := g.tree.Get(g.scratch.at(key))
	if !ok {
		g.add(key, v)
		return
	}
	g.bytes += v.bytes() - c.newest.bytes()
	c.newest = v
}

// get returns the version of key that a snapshot at seq sees.
func (g *generation) get(p *probe, key []byte, seq uint64) (version, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	c, ok := g.tree.Get(p.at(key))
	if !ok {
		return version{}, false
	}
	return c.visible(seq)
}

func (c *chain) visible(seq uint64) (version, bool) {
	for v := &c.newest; v != nil; v = v.older {
		if v.seq <= seq {
			return *v, true
		}
	}
	return version{}, false
}

// changed reports whether key has a version younger than seq. Only the holder of Store.commit calls it, so
// it takes no lock.
func (g *generation) changed(p *probe, key []byte, seq uint64) bool {
	c, ok := g.tree.Get(p.at(key))
	return ok && c.newest.seq > seq
}

// changedIn is changed for any key of a span.
func (g *generation) changedIn(s span, seq uint64) bool {
	found := false
	g.tree.AscendGreaterOrEqual(itemFor(&chain{key: s.lo}), func(c item) bool {
		if s.beyond(c.key) {
			return false
		}
		found = c.newest.seq > seq
		return !found
	})
	return found
}

// row is a key with the version that a snapshot sees.
type row struct {
	key []byte
	version
}

// fetch appends rows of [lo, hi) (without lo itself if after is set) that a snapshot at seq sees, and
// returns the key to go on after, nil if there are no more. It looks at no more than n keys.
func (g *generation) fetch(rows []row, lo, hi []byte, after bool, seq uint64, n int) ([]row, []byte) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	steps := 0
	var last []byte
	g.tree.AscendGreaterOrEqual(itemFor(&chain{key: lo}), func(c item) bool {
		if hi != nil && bytes.Compare(c.key, hi) >= 0 {
			return false
		}
		if after && bytes.Equal(c.key, lo) {
			return true
		}
		if v, ok := c.visible(seq); ok {
			rows = append(rows, row{c.key, v})
		}
		if steps++; steps == n {
			last = c.key
		}
		return last == nil
	})
	return rows, last
}

// size returns the number of keys, and the bytes that they take in memory.
func (g *generation) size() (rows int, bytes int64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.tree.Len(), g.bytes
}
