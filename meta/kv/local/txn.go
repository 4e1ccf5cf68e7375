package local

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// write is what a transaction does to one key.
type write struct {
	key         []byte
	value       []byte
	deleted     bool
	journalOnly bool
	blobOff     int // of a journal-only value, set by encoder.encode
}

// span is a range of keys that a Scan has seen: [lo, hi), or [lo, last] if it stopped early.
type span struct {
	lo, hi, last []byte
}

// beyond reports whether key lies behind the span.
func (s span) beyond(key []byte) bool {
	if s.last != nil {
		return bytes.Compare(key, s.last) > 0
	}
	return s.hi != nil && bytes.Compare(key, s.hi) >= 0
}

// indexFrom is the number of changes from which a transaction finds them by a map.
const indexFrom = 12

// txn is a kv.Txn.
type txn struct {
	reader
	store  *Store
	writes []write
	index  map[string]int // place in writes; nil while there are few
	reads  [][]byte
	spans  []span
	bytes  int
	err    error  // the first bad Put or Delete
	arena  []byte // room for copies of keys

	// Room for the usual transaction.
	writeRoom [6]write
	readRoom  [8][]byte
}

func newTxn(s *Store, snap snapshot) *txn {
	t := &txn{reader: reader{snap: snap}, store: s}
	t.writes, t.reads = t.writeRoom[:0], t.readRoom[:0]
	return t
}

// keep returns a copy of key that nobody changes.
func (t *txn) keep(key []byte) []byte {
	if cap(t.arena)-len(t.arena) < len(key) {
		t.arena = make([]byte, 0, max(192, len(key)))
	}
	n := len(t.arena)
	t.arena = append(t.arena, key...)
	return t.arena[n:len(t.arena):len(t.arena)]
}

// find returns the place of key in writes, or -1.
func (t *txn) find(key []byte) int {
	if t.index != nil {
		if i, ok := t.index[string(key)]; ok {
			return i
		}
		return -1
	}
	for i := range t.writes {
		if bytes.Equal(t.writes[i].key, key) {
			return i
		}
	}
	return -1
}

func (t *txn) Put(k, v []byte) {
	if len(v) == 0 {
		t.refuse(fmt.Errorf("put an empty value: %w", kv.ErrInvalid))
		return
	}
	t.set(k, v, false)
}

func (t *txn) Delete(k []byte) { t.set(k, nil, true) }

func (t *txn) set(k, v []byte, deleted bool) {
	if !validKey(k) {
		t.refuse(fmt.Errorf("change a key of %d bytes: %w", len(k), kv.ErrInvalid))
		return
	}
	if len(k) > maxKey {
		t.refuse(fmt.Errorf("change a key of %d bytes: %w", len(k), kv.ErrTooBig))
		return
	}
	i := t.find(k)
	if i < 0 {
		i = len(t.writes)
		t.writes = append(t.writes, write{key: t.keep(k), journalOnly: t.store.journalOnly(k)})
		t.bytes += len(k)
		t.grow(i)
	}
	w := &t.writes[i]
	if !w.journalOnly && len(v) > t.store.caps.MaxValue {
		t.refuse(fmt.Errorf("put a value of %d bytes: %w", len(v), kv.ErrTooBig))
		return
	}
	t.bytes += len(v) - len(w.value)
	w.value, w.deleted = v, deleted
}

// grow enters the new change i into the index, and makes one when there are enough.
func (t *txn) grow(i int) {
	switch {
	case t.index != nil:
		t.index[string(t.writes[i].key)] = i
	case len(t.writes) == indexFrom:
		t.index = make(map[string]int, 4*indexFrom)
		for i := range t.writes {
			t.index[string(t.writes[i].key)] = i
		}
	}
}

func (t *txn) refuse(err error) {
	if t.err == nil {
		t.err = err
	}
}

// check returns why the transaction cannot be committed, if so.
func (t *txn) check() error {
	if t.err != nil {
		return t.err
	}
	if caps := t.store.caps; len(t.writes) > caps.MaxOps || t.bytes > caps.MaxTxnBytes {
		return fmt.Errorf("commit %d changes of %d bytes: %w", len(t.writes), t.bytes, kv.ErrTooBig)
	}
	return nil
}

func (t *txn) Get(ctx context.Context, keys ...[]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		if j := t.find(k); j >= 0 {
			values[i] = t.writes[j].value
			continue
		}
		v, err := t.get(ctx, k)
		if err != nil {
			return nil, err
		}
		values[i] = v
		t.reads = append(t.reads, t.keep(k))
	}
	return values, nil
}

func (t *txn) Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error {
	seen := span{lo: slices.Clone(lo), hi: slices.Clone(hi)}
	var last []byte
	own := &writeSource{t.writesIn(seen)}
	stopped, err := t.scan(ctx, own, lo, hi, limit, func(k, v []byte) bool {
		last = append(last[:0], k...)
		return fn(k, v)
	})
	if stopped {
		seen.last = last
	}
	t.spans = append(t.spans, seen)
	return err
}

// writesIn returns copies of the changes in a span, in key order.
func (t *txn) writesIn(s span) []write {
	var in []write
	for _, w := range t.writes {
		if bytes.Compare(w.key, s.lo) >= 0 && !s.beyond(w.key) {
			in = append(in, w)
		}
	}
	slices.SortFunc(in, func(a, b write) int { return bytes.Compare(a.key, b.key) })
	return in
}

// stale reports whether something that was read has changed since the snapshot. The caller holds
// Store.commit. The chain of generations leads from the snapshot's to the present one, so a checkpoint
// that finished in between hides nothing.
func (t *txn) stale() bool {
	for g := t.snap.active; g != nil; g = g.next.Load() {
		for _, k := range t.reads {
			if g.changed(&t.probe, k, t.snap.seq) {
				return true
			}
		}
		for _, s := range t.spans {
			if g.changedIn(s, t.snap.seq) {
				return true
			}
		}
	}
	return false
}
