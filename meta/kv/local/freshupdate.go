package local

import (
	"bytes"
)

// change is what a checkpoint makes of one key.
type change struct {
	key, value []byte // value nil: deleted
}

// tableRow is a row of the table that a checkpoint writes; value nil: it goes.
type tableRow struct {
	key, value []byte
}

// tableUpdate works out the table after a checkpoint from the one before it. Changes come in ascending order of their keys.
type tableUpdate struct {
	old     *freshTable
	b       *base // the checkpoint before
	next    *freshTable
	written []tableRow

	chunk   int        // of old, that changes fall into; -1 before the first
	spans   []keyRange // of that chunk, as changed so far
	before  *ranges    // as they were
	at      int        // range of before that changes fall into
	pending []change
}

func (t *freshTable) update(b *base) *tableUpdate {
	next := &freshTable{keys: t.keys, nextID: t.nextID}
	next.keepEnds(t)
	return &tableUpdate{old: t, b: b, next: next, chunk: -1}
}

// add takes the next change.
func (u *tableUpdate) add(c change) error {
	if u.chunk < 0 || !precedes(c.key, u.old.end(u.chunk)) {
		if err := u.enter(u.old.chunkOf(c.key)); err != nil {
			return err
		}
	}
	if j := u.before.find(c.key); j != u.at {
		if err := u.settleSpan(); err != nil {
			return err
		}
		u.keep(j)
	}
	u.pending = append(u.pending, c)
	if c.value != nil {
		u.next.raise(c.key)
	}
	return nil
}

// keep takes over the ranges up to before j as they are.
func (u *tableUpdate) keep(j int) {
	for ; u.at < j; u.at++ {
		u.spans = append(u.spans, u.before.at(u.at))
	}
}

// precedes reports whether key lies before end; nil end is after everything.
func precedes(key, end []byte) bool { return end == nil || bytes.Compare(key, end) < 0 }

// enter finishes the current chunk and begins chunk i.
func (u *tableUpdate) enter(i int) error {
	if err := u.leave(); err != nil {
		return err
	}
	u.next.chunks = append(u.next.chunks, u.old.chunks[u.chunk+1:i]...)
	spans, err := u.old.load(u.b, u.old.chunks[i])
	if err != nil {
		return err
	}
	u.chunk, u.before, u.spans, u.at = i, spans, make([]keyRange, 0, spans.len()+1), 0
	return nil
}

// leave stores the current chunk, in pieces if it has grown too large.
func (u *tableUpdate) leave() error {
	if u.chunk < 0 {
		return nil
	}
	if err := u.settleSpan(); err != nil {
		return err
	}
	u.keep(u.before.len())
	spans := dropEmpty(u.spans, u.chunk == 0)
	c := u.old.chunks[u.chunk]
	if len(spans) == 0 {
		u.written = append(u.written, tableRow{key: chunkKey(c.id)})
		return nil
	}
	start := c.start
	if u.chunk > 0 {
		start = spans[0].start
	}
	pieces := (len(spans) + maxRanges - 1) / maxRanges
	for k := range pieces {
		piece := spans[k*len(spans)/pieces : (k+1)*len(spans)/pieces]
		id, old := c.id, c
		if k > 0 {
			start, id, old = piece[0].start, u.next.nextID, nil
			u.next.nextID++
		}
		if err := u.store(old, id, start, piece); err != nil {
			return err
		}
	}
	return nil
}

// store adds a chunk to the table, in memory in the place of old; nil: of none.
func (u *tableUpdate) store(old *chunk, id uint32, start []byte, spans []keyRange) error {
	sealed, as, err := u.next.keys.sealChunk(id, spans)
	if err != nil {
		return err
	}
	c := &chunk{id: id, start: bytes.Clone(start), tag: tagOf(sealed)}
	if old != nil {
		u.next.keys.loaded.replace(old, c, as)
	} else {
		u.next.keys.loaded.keep(c, as)
	}
	u.next.chunks = append(u.next.chunks, c)
	u.written = append(u.written, tableRow{chunkKey(id), sealed})
	return nil
}

// dropEmpty removes ranges without rows: the one before them grows. The very first of the table stays.
func dropEmpty(spans []keyRange, first bool) []keyRange {
	out := spans[:0]
	for i, s := range spans {
		if s.rows == 0 && s.sum == (sum{}) && !(first && i == 0) && s.verified != 0 {
			continue
		}
		out = append(out, s)
	}
	return out
}

// finish returns the new table and the rows to write for it, the root last.
func (u *tableUpdate) finish() (*freshTable, []tableRow, error) {
	if err := u.leave(); err != nil {
		return nil, nil, err
	}
	u.next.chunks = append(u.next.chunks, u.old.chunks[u.chunk+1:]...)
	root, err := u.next.sealRoot()
	if err != nil {
		return nil, nil, err
	}
	u.next.tag = tagOf(root)
	return u.next, append(u.written, tableRow{rootKey, root}), nil
}

// settleSpan applies the pending changes to the range at hand and moves past it.
func (u *tableUpdate) settleSpan() error {
	if u.at >= u.before.len() {
		return nil
	}
	changed := u.before.at(u.at)
	u.at++
	if len(u.pending) == 0 {
		u.spans = append(u.spans, changed)
		return nil
	}
	defer func() { u.pending = u.pending[:0] }()
	for _, c := range u.pending {
		if err := u.apply(&changed, c); err != nil {
			return err
		}
	}
	if changed.rows <= maxRows {
		u.spans = append(u.spans, changed)
		return nil
	}
	return u.split(changed)
}

// apply takes the old version of a row out of a range and the new one in.
func (u *tableUpdate) apply(s *keyRange, c change) error {
	old, err := u.b.raw(c.key)
	if err != nil {
		return err
	}
	if old != nil {
		s.sum.add(u.old.keys.row(c.key, old))
		s.rows--
	}
	if c.value != nil {
		s.sum.add(u.old.keys.row(c.key, c.value))
		s.rows++
	}
	return nil
}

// split cuts a range that has grown too large. What it was before must be verified for that, now: its pieces' sums come from the rows
// themselves. Where it does not verify it stays whole, and false.
func (u *tableUpdate) split(changed keyRange) error {
	if err := u.old.verifyRun(u.b, u.before, u.at-1, u.at, u.old.end(u.chunk), noAge); err != nil {
		u.spans = append(u.spans, changed)
		return nil
	}
	piece := keyRange{start: changed.start, verified: u.old.keys.now()}
	target := (changed.rows + splitRows - 1) / splitRows
	size := (changed.rows + target - 1) / target
	var last []byte // key that came before
	return u.merged(changed.start, u.before.end(u.at-1, u.old.end(u.chunk)), func(k, v []byte, done bool) {
		if v != nil {
			if piece.rows == size {
				u.spans = append(u.spans, piece)
				piece = keyRange{start: between(last, k), verified: u.old.keys.now()}
			}
			piece.rows++
			piece.sum.add(u.old.keys.row(k, v))
			last = append(last[:0], k...)
		}
		if done {
			u.spans = append(u.spans, piece)
		}
	})
}

// between returns the start of a range that begins with key k behind key last: no more of k than that takes. For a nil last it is empty.
func between(last, k []byte) []byte {
	if last == nil {
		return nil
	}
	n := 0
	for n < len(last) && last[n] == k[n] {
		n++
	}
	return bytes.Clone(k[:n+1])
}

// merged calls fn for the rows of [lo, hi) with the pending changes applied, in order, and once with done set and no row at the end.
func (u *tableUpdate) merged(lo, hi []byte, fn func(k, v []byte, done bool)) error {
	it := u.b.iterate(lo, hi)
	defer it.close()
	changes := u.pending
	for k := it.key(); k != nil || len(changes) > 0; k = it.key() {
		order := -1 // of the base's row against the next change
		switch {
		case k == nil:
			order = 1
		case len(changes) > 0:
			order = bytes.Compare(k, changes[0].key)
		}
		if order >= 0 {
			fn(changes[0].key, changes[0].value, false)
			changes = changes[1:]
		} else {
			v, _, err := it.value()
			if err != nil {
				return err
			}
			fn(k, v, false)
		}
		if order <= 0 {
			it.next()
		}
	}
	if err := it.failed(); err != nil {
		return err
	}
	fn(nil, nil, true)
	return nil
}
