package local

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Freshness (docs/FORMAT.md 9.6): a row's seal binds its place, not its version, so a row in Badger could be put back
// to an older version of its own, or removed. The key space is therefore cut into ranges, and a table, sealed and
// bound to the checkpoint row, holds for each how many rows it has and the XOR of a keyed hash of every one. A range
// is verified by reading it whole when it is first touched, and again now and then where something is not there.
const (
	sumSize    = 16
	maxRows    = 16  // of a range; more are split when a checkpoint adds them
	splitRows  = 12  // what a split aims at
	maxRanges  = 256 // of a chunk; more are split
	chunkClass = 'F'
)

// rootKey is the key of the table's root, a driver row.
var rootKey = []byte("\x00root")

func chunkKey(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, chunkClass}, id)
}

// sum is what a range's rows add up to: the XOR of their hashes. It is secret: the table is sealed.
type sum [sumSize]byte

func (s *sum) add(other sum) {
	for i := range s {
		s[i] ^= other[i]
	}
}

// keyRange is one range of keys: from start to the start of the next one. Start may be shorter than any key in it.
type keyRange struct {
	start    []byte
	rows     uint32
	sum      sum
	verified int64 // when last, by freshKeys.now; 0: never
}

// recheck is how long a verification is good for what is not there: Badger passes over a block that it cannot read, as if its rows did
// not exist. What is there speaks for itself: its seal is checked by whoever reads it.
const recheck = 30 * time.Second

// Ages of verifications for verifySpan and those that call it.
const (
	anyAge = time.Duration(math.MaxInt64)
	noAge  = time.Duration(0) // verify now
)

// freshTable is the state of all ranges at one checkpoint. It is immutable but for what is loaded and verified lazily.
type freshTable struct {
	keys   *freshKeys
	chunks []*chunk // ascending; the first starts at the empty key
	tag    [sumSize]byte
	nextID uint32
	ends   [256]atomic.Pointer[[]byte] // the last key of each class; nil: not known yet
}

// freshKeys are the keys of the table, derived from the journal key.
type freshKeys struct {
	mac    *blockcrypt.Key
	sealer *blockcrypt.Sealer
	hashes sync.Pool // of hash.Hash, keyed
	loaded loadedChunks
	began  time.Time
	good   time.Duration // recheck; tests lower it
}

// now is a clock for keyRange.verified: never 0.
func (k *freshKeys) now() int64 { return int64(time.Since(k.began)) + 1 }

// fresh reports whether a verification at some time, 0 for none, was at most age ago.
func (k *freshKeys) fresh(at int64, age time.Duration) bool {
	return at != 0 && (age == anyAge || age > 0 && k.now()-at <= int64(age))
}

func newFreshKeys(journalKey *blockcrypt.Key, volume blockcrypt.VolumeID) (*freshKeys, error) {
	mac, err := blockcrypt.DeriveKey(journalKey, "freshness hash", volume[:])
	if err != nil {
		return nil, err
	}
	seal, err := blockcrypt.DeriveKey(journalKey, "freshness table", volume[:])
	if err != nil {
		return nil, err
	}
	defer seal.Wipe()
	k := &freshKeys{mac: mac, began: time.Now(), good: recheck, loaded: loadedChunks{limit: maxLoaded}}
	k.hashes.New = func() any { return hmac.New(sha256.New, k.mac[:]) }
	k.sealer, err = blockcrypt.NewSealer(seal)
	return k, err
}

func (k *freshKeys) wipe() { k.mac.Wipe() }

// row returns the hash of a row: HMAC-SHA-256(length of key u16 || key || value), cut to 16 bytes.
func (k *freshKeys) row(key, value []byte) sum {
	h := k.hashes.Get().(hash.Hash)
	defer k.hashes.Put(h)
	h.Reset()
	var n [2]byte
	binary.BigEndian.PutUint16(n[:], uint16(len(key)))
	h.Write(n[:])
	h.Write(key)
	h.Write(value)
	var out [sha256.Size]byte
	return sum(h.Sum(out[:0])[:sumSize])
}

// find returns the index of the last element of n whose start is not after key.
func find(n int, start func(int) []byte, key []byte) int {
	return sort.Search(n, func(i int) bool { return bytes.Compare(start(i), key) > 0 }) - 1
}

func (t *freshTable) chunkOf(key []byte) int {
	return find(len(t.chunks), func(i int) []byte { return t.chunks[i].start }, key)
}

// end returns where chunk i ends: the start of the next, nil for the last.
func (t *freshTable) end(i int) []byte {
	if i+1 < len(t.chunks) {
		return t.chunks[i+1].start
	}
	return nil
}

// verify makes sure that the rows of b in [lo, hi) are those of its checkpoint; nil hi is the end. A range that was
// verified at most age ago is not read again. Errors: kv.ErrTampered.
func (t *freshTable) verify(b *base, lo, hi []byte, age time.Duration) error {
	for i := t.chunkOf(lo); i < len(t.chunks); i++ {
		if hi != nil && i > 0 && bytes.Compare(t.chunks[i].start, hi) >= 0 {
			return nil
		}
		spans, err := t.load(b, t.chunks[i])
		if err != nil {
			return err
		}
		if err := t.verifyRun(b, spans, max(0, spans.find(lo)), spans.before(hi), t.end(i), age); err != nil {
			return err
		}
	}
	return nil
}

// verifyKey is verify for the range of one key.
func (t *freshTable) verifyKey(b *base, key []byte, age time.Duration) error {
	i := t.chunkOf(key)
	spans, err := t.load(b, t.chunks[i])
	if err != nil {
		return err
	}
	j := max(0, spans.find(key))
	return t.verifyRun(b, spans, j, j+1, t.end(i), age)
}

// aheadRanges is how many ranges a scan has verified at once: one look at the database for all of them.
const aheadRanges = 8

// verifyThrough verifies the ranges from lo up to that of key k and some behind it, or for a nil k up to hi, and returns where the last one ends; nil: nowhere.
func (t *freshTable) verifyThrough(b *base, lo, k, hi []byte) ([]byte, error) {
	if k == nil {
		return nil, t.verify(b, lo, hi, t.keys.good)
	}
	i := t.chunkOf(k)
	spans, err := t.load(b, t.chunks[i])
	if err != nil {
		return nil, err
	}
	j := max(0, spans.find(k))
	if first := spans.start(j); bytes.Compare(lo, first) < 0 {
		if err := t.verify(b, lo, first, t.keys.good); err != nil {
			return nil, err
		}
	}
	last := max(j+1, min(j+aheadRanges, spans.before(hi)))
	if err := t.verifyRun(b, spans, j, last, t.end(i), t.keys.good); err != nil {
		return nil, err
	}
	return spans.end(last-1, t.end(i)), nil
}

// verifyRun verifies the ranges from j up to before last of a chunk that ends at end, but for those of which that was done at most age ago.
func (t *freshTable) verifyRun(b *base, spans *ranges, j, last int, end []byte, age time.Duration) error {
	for j < last {
		if t.keys.fresh(spans.verified(j), age) {
			j++
			continue
		}
		n := j + 1
		for n < last && !t.keys.fresh(spans.verified(n), age) {
			n++
		}
		var failed error
		err := t.checkRun(b, spans, j, n, end, nil, func(err error) { failed = cmp.Or(failed, err) })
		if err = cmp.Or(failed, err); err != nil {
			return err
		}
		j = n
	}
	return nil
}

// checkRun reads the ranges from j up to before last of a chunk that ends at end, in one go, and holds each to its sum. It calls visit, if there is one, for every key
// in them, and bad for a range that is not what it should be: kv.ErrTampered.
func (t *freshTable) checkRun(b *base, spans *ranges, j, last int, end []byte, visit func(key []byte), bad func(error)) error {
	it := b.iterate(spans.start(j), spans.end(last-1, end))
	defer it.close()
	for ; j < last; j++ {
		r := spans.at(j)
		rows, total, err := t.count(it, spans.end(j, end), visit)
		if err != nil {
			return err
		}
		if rows != r.rows || total != r.sum {
			bad(fmt.Errorf("rows from %x on are not those of the last checkpoint (%d, should be %d): %w", r.start, rows, r.rows, kv.ErrTampered))
			continue
		}
		spans.note(j, t.keys.now())
	}
	return nil
}

// count adds up what it has up to hi, and calls visit for each key.
func (t *freshTable) count(it *baseSource, hi []byte, visit func(key []byte)) (rows uint32, total sum, err error) {
	for k := it.key(); k != nil && precedes(k, hi); k = it.key() {
		v, _, err := it.value()
		if err != nil {
			return 0, sum{}, err
		}
		total.add(t.keys.row(k, v))
		rows++
		if visit != nil {
			visit(k)
		}
		it.next()
	}
	return rows, total, it.failed()
}
