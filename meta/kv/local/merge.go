package local

import (
	"bytes"
	"context"
)

// source is a run of rows in key order.
type source interface {
	// key returns the key of the row it stands at, nil when there are no more.
	key() []byte
	// value returns the row's value; present is false for a deletion. It is valid until next.
	value() (v []byte, present bool, err error)
	// next moves on.
	next()
	// failed returns why the key it gave last, or the end, cannot be relied on; nil if it can.
	failed() error
}

// merge calls fn for the rows of all sources in key order, at most limit; of rows with one key the first
// source's counts. stopped says that fn or limit ended it.
func merge(ctx context.Context, sources []source, limit int, fn func(k, v []byte) bool) (stopped bool, err error) {
	for n := 0; ; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		first := lowest(sources)
		for _, s := range sources {
			if err := s.failed(); err != nil {
				return false, err
			}
		}
		if first == nil {
			return false, nil
		}
		k := first.key()
		v, present, err := first.value()
		if err != nil {
			return false, err
		}
		if present {
			n++
			if !fn(k, v) || n == limit {
				return true, nil
			}
		}
		for _, s := range sources {
			if s != first && bytes.Equal(s.key(), k) {
				s.next()
			}
		}
		first.next()
	}
}

// lowest returns the first source that stands at the lowest key, nil when all are at their end.
func lowest(sources []source) source {
	var first source
	var low []byte
	for _, s := range sources {
		if k := s.key(); k != nil && (first == nil || bytes.Compare(k, low) < 0) {
			first, low = s, k
		}
	}
	return first
}

// overlaySource reads a generation in pieces, so that its lock is never held while the caller works.
type overlaySource struct {
	g    *generation
	seq  uint64
	hi   []byte
	rows []row
	at   int
	more []byte // key to go on after, nil at the end
	n    int    // keys to look at in the next piece
}

// Pieces grow from small, for scans that stop soon, to what the lock may be held for.
const (
	firstPiece = 16
	lastPiece  = 256
)

func newOverlaySource(g *generation, seq uint64, lo, hi []byte) *overlaySource {
	o := &overlaySource{g: g, seq: seq, hi: hi, n: firstPiece}
	o.rows, o.more = g.fetch(nil, lo, hi, false, seq, o.n)
	o.refill()
	return o
}

// refill fetches until there is a row or the end.
func (o *overlaySource) refill() {
	for o.at == len(o.rows) && o.more != nil {
		o.at, o.n = 0, min(2*o.n, lastPiece)
		o.rows, o.more = o.g.fetch(o.rows[:0], o.more, o.hi, true, o.seq, o.n)
	}
}

func (o *overlaySource) key() []byte {
	if o.at == len(o.rows) {
		return nil
	}
	return o.rows[o.at].key
}

func (o *overlaySource) value() ([]byte, bool, error) {
	v := o.rows[o.at].version
	if v.deleted {
		return nil, false, nil
	}
	b, err := v.read()
	return b, true, err
}

func (o *overlaySource) next() {
	o.at++
	o.refill()
}

func (o *overlaySource) failed() error { return nil }

// writeSource runs over a transaction's own changes as they were when the scan began.
type writeSource struct{ writes []write }

func (w *writeSource) key() []byte {
	if len(w.writes) == 0 {
		return nil
	}
	return w.writes[0].key
}

func (w *writeSource) value() ([]byte, bool, error) {
	return w.writes[0].value, !w.writes[0].deleted, nil
}

func (w *writeSource) next() { w.writes = w.writes[1:] }

func (w *writeSource) failed() error { return nil }
