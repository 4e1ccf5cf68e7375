package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/btree"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// snapshot is the tree as it was at one revision. Nobody changes it.
type snapshot struct {
	tree *btree.BTreeG[row]
	rev  kv.Rev
}

// ascend calls fn for the rows of [lo, hi) in order until it returns false; nil bounds are open.
func (s snapshot) ascend(lo, hi []byte, fn func(row) bool) {
	s.tree.AscendGreaterOrEqual(row{key: lo}, func(r row) bool {
		if hi != nil && bytes.Compare(r.key, hi) >= 0 {
			return false
		}
		return fn(r)
	})
}

// reader is a View's kv.Reader.
type reader struct{ snap snapshot }

func (r *reader) Rev() kv.Rev { return r.snap.rev }

func (r *reader) Get(ctx context.Context, keys ...[]byte) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, k := range keys {
		if !validKey(k) {
			return nil, fmt.Errorf("get a key of %d bytes: %w", len(k), kv.ErrInvalid)
		}
		if found, ok := r.snap.tree.Get(row{key: k}); ok {
			values[i] = found.value
		}
	}
	return values, nil
}

func (r *reader) Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error {
	var out lender
	n := 0
	r.snap.ascend(lo, hi, func(found row) bool {
		if ctx.Err() != nil {
			return false
		}
		n++
		return out.lend(found.key, found.value, fn) && n != limit
	})
	return ctx.Err()
}

// lender passes copies of rows to a callback and overwrites them afterwards.
type lender struct{ buf []byte }

func (l *lender) lend(k, v []byte, fn func(k, v []byte) bool) bool {
	l.buf = append(append(l.buf[:0], k...), v...)
	more := fn(l.buf[:len(k):len(k)], l.buf[len(k):])
	for i := range l.buf {
		l.buf[i] = 0xdb
	}
	return more
}

// write is what a transaction does to one key.
type write struct {
	value   []byte
	deleted bool
}

// span is a range of keys that a Scan has seen: all of [lo, hi), or of [lo, last] if it stopped early.
type span struct {
	lo, hi, last []byte
	stopped      bool
}

// txn is a kv.Txn.
type txn struct {
	reader
	writes map[string]write
	reads  map[string]struct{}
	spans  []span
	bytes  int
	err    error // the first bad Put or Delete
}

func newTxn(snap snapshot) *txn {
	return &txn{reader: reader{snap}, writes: map[string]write{}, reads: map[string]struct{}{}}
}

func (t *txn) Put(k, v []byte) {
	if len(v) == 0 {
		t.refuse(fmt.Errorf("put an empty value: %w", kv.ErrInvalid))
		return
	}
	t.set(k, write{value: v})
}

func (t *txn) Delete(k []byte) { t.set(k, write{deleted: true}) }

func (t *txn) set(k []byte, w write) {
	switch {
	case !validKey(k):
		t.refuse(fmt.Errorf("change a key of %d bytes: %w", len(k), kv.ErrInvalid))
	case len(k) > maxKey || len(w.value) > maxValue:
		t.refuse(fmt.Errorf("change a row of %d+%d bytes: %w", len(k), len(w.value), kv.ErrTooBig))
	default:
		t.bytes += len(w.value) - len(t.writes[string(k)].value)
		if _, again := t.writes[string(k)]; !again {
			t.bytes += len(k)
		}
		t.writes[string(k)] = w
	}
}

func (t *txn) refuse(err error) {
	if t.err == nil {
		t.err = err
	}
}

func validKey(k []byte) bool { return len(k) > 0 && k[0] != 0 }

func (t *txn) checkSize(caps kv.Caps) error {
	if len(t.writes) > caps.MaxOps || t.bytes > caps.MaxTxnBytes {
		return fmt.Errorf("commit %d changes of %d bytes: %w", len(t.writes), t.bytes, kv.ErrTooBig)
	}
	return nil
}

func (t *txn) Get(ctx context.Context, keys ...[]byte) ([][]byte, error) {
	values, err := t.reader.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if w, ok := t.writes[string(k)]; ok {
			values[i] = w.value
			continue
		}
		t.reads[string(k)] = struct{}{}
	}
	return values, nil
}

// Scan merges the snapshot with the transaction's own changes as they are when it begins.
func (t *txn) Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error {
	merged := t.snap.tree.Clone()
	for k, w := range t.writes {
		if w.deleted {
			merged.Delete(row{key: []byte(k)})
			continue
		}
		merged.ReplaceOrInsert(row{key: []byte(k), value: w.value})
	}
	seen := span{lo: bytes.Clone(lo), hi: bytes.Clone(hi)}
	n := 0
	r := reader{snapshot{tree: merged, rev: t.snap.rev}}
	err := r.Scan(ctx, lo, hi, 0, func(k, v []byte) bool {
		n++
		last := bytes.Clone(k)
		if !fn(k, v) || n == limit {
			seen.stopped, seen.last = true, last
			return false
		}
		return true
	})
	t.spans = append(t.spans, seen)
	return err
}

// unchanged reports whether everything that t read is the same in now.
func (t *txn) unchanged(now snapshot) bool {
	if now.rev == t.snap.rev {
		return true
	}
	for k := range t.reads {
		was, _ := t.snap.tree.Get(row{key: []byte(k)})
		is, _ := now.tree.Get(row{key: []byte(k)})
		if was.rev != is.rev {
			return false
		}
	}
	return !slices.ContainsFunc(t.spans, func(s span) bool {
		return !slices.EqualFunc(s.rows(t.snap), s.rows(now), func(a, b row) bool {
			return a.rev == b.rev && bytes.Equal(a.key, b.key)
		})
	})
}

// rows returns the rows of snap in the span.
func (s span) rows(snap snapshot) []row {
	var rows []row
	snap.ascend(s.lo, s.hi, func(r row) bool {
		if s.stopped && bytes.Compare(r.key, s.last) > 0 {
			return false
		}
		rows = append(rows, r)
		return true
	})
	return rows
}
