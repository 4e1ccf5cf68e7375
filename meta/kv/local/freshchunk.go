package local

import (
	"bytes"
	"encoding/binary"
	"sort"
	"sync"
	"sync/atomic"
)

// chunk is a run of ranges that is stored as one row.
type chunk struct {
	id    uint32
	start []byte // of its first range
	tag   [sumSize]byte

	load  sync.Mutex
	spans atomic.Pointer[ranges] // nil until loaded, and when others have taken its place in memory
	used  atomic.Bool            // since loadedChunks has looked
	place int                    // in loadedChunks, counted from 1; guarded by its mu; 0: none
}

// ranges are those of a chunk as it is stored, which is what they take in memory. They are immutable but for when they were verified.
type ranges struct {
	b     []byte         // as FORMAT.md 9.6 says
	where []uint32       // of each range in b
	times []atomic.Int64 // when each was verified last, by freshKeys.now; 0: never
}

// Bytes of a range in a chunk's row: the length of its start before it, rows and sum behind.
const (
	startLen = 2
	rangeLen = startLen + 4 + sumSize
)

func (r *ranges) len() int { return len(r.where) }

func (r *ranges) start(i int) []byte {
	at := int(r.where[i])
	n := at + startLen + int(binary.BigEndian.Uint16(r.b[at:]))
	return r.b[at+startLen : n : n]
}

// at returns range i; its start belongs to r.
func (r *ranges) at(i int) keyRange {
	start := r.start(i)
	rest := r.b[int(r.where[i])+startLen+len(start):]
	return keyRange{start: start, rows: binary.BigEndian.Uint32(rest), sum: sum(rest[4 : 4+sumSize]), verified: r.verified(i)}
}

func (r *ranges) verified(i int) int64 { return r.times[i].Load() }

func (r *ranges) note(i int, now int64) { r.times[i].Store(now) }

// end returns where range i ends, in a chunk that ends at end.
func (r *ranges) end(i int, end []byte) []byte {
	if i+1 < r.len() {
		return r.start(i + 1)
	}
	return end
}

// find returns the last range that does not start after key, -1 if all do.
func (r *ranges) find(key []byte) int { return find(r.len(), r.start, key) }

// before returns how many ranges start before hi; nil is the end.
func (r *ranges) before(hi []byte) int {
	if hi == nil {
		return r.len()
	}
	return sort.Search(r.len(), func(i int) bool { return bytes.Compare(r.start(i), hi) >= 0 })
}

// load returns the chunk's ranges, from its row in b if need be.
func (t *freshTable) load(b *base, c *chunk) (*ranges, error) {
	if spans := c.spans.Load(); spans != nil {
		if !c.used.Load() {
			c.used.Store(true)
		}
		return spans, nil
	}
	c.load.Lock()
	defer c.load.Unlock()
	if spans := c.spans.Load(); spans != nil {
		return spans, nil
	}
	sealed, err := b.raw(chunkKey(c.id))
	if err != nil {
		return nil, err
	}
	spans, err := t.keys.openChunk(sealed, c)
	if err != nil {
		return nil, err
	}
	t.keys.loaded.keep(c, spans)
	return spans, nil
}

// maxLoaded is how many chunks stay in memory: 20 MB of ranges, or what four million rows need.
const maxLoaded = 2048

// loadedChunks are the chunks whose ranges are in memory. One that comes when there are as many as may be takes the place of one that was not used for a round.
type loadedChunks struct {
	limit int

	mu   sync.Mutex
	all  []*chunk // guarded by mu
	hand int      // guarded by mu
}

// keep gives a chunk its ranges.
func (l *loadedChunks) keep(c *chunk, spans *ranges) {
	c.spans.Store(spans)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) < l.limit {
		l.all = append(l.all, nil)
		l.put(c, len(l.all))
		return
	}
	for l.all[l.hand].used.Swap(false) {
		l.hand = (l.hand + 1) % len(l.all)
	}
	old := l.all[l.hand]
	old.spans.Store(nil)
	old.place = 0
	l.put(c, l.hand+1)
	l.hand = (l.hand + 1) % len(l.all)
}

// replace is keep for a chunk that will be used instead of another. That one keeps its ranges: it goes with who reads from it.
func (l *loadedChunks) replace(old, c *chunk, spans *ranges) {
	l.mu.Lock()
	if at := old.place; at > 0 {
		old.place = 0
		l.put(c, at)
		c.spans.Store(spans)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.keep(c, spans)
}

// put gives a chunk a place. The caller holds mu.
func (l *loadedChunks) put(c *chunk, place int) {
	l.all[place-1], c.place = c, place
}
