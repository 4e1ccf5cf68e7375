package local

import (
	"context"
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// snapshot is what one View or transaction reads from: everything up to seq. While it is held, its overlay
// generations, the segments they point into and its Badger transaction stay.
type snapshot struct {
	seq    uint64
	active *generation // the active one when the snapshot was taken; its younger versions are not seen
	frozen *generation // nil if no checkpoint ran
	base   *base
}

// hold takes a snapshot of everything committed.
func (s *Store) hold() (snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return snapshot{}, kv.ErrClosed
	}
	snap := snapshot{seq: s.seq, active: s.active, frozen: s.frozen, base: s.base}
	snap.active.refs++
	if snap.frozen != nil {
		snap.frozen.refs++
	}
	snap.base.refs++
	s.live.add(snap.seq)
	s.calls.Add(1)
	return snap, nil
}

// drop gives a snapshot back.
func (s *Store) drop(snap snapshot) {
	defer s.calls.Done()
	s.mu.Lock()
	s.live.remove(snap.seq)
	snap.active.refs--
	retired := snap.active.refs == 0
	if snap.frozen != nil {
		snap.frozen.refs--
		retired = retired || snap.frozen.refs == 0
	}
	done := s.unref(snap.base)
	s.mu.Unlock()
	if done {
		s.retire(snap.base)
	}
	if retired {
		s.reclaim()
	}
}

// unref gives up one reference to b and reports whether it was the last. The caller holds s.mu.
func (s *Store) unref(b *base) bool {
	b.refs--
	return b.refs == 0
}

// retire ends a base that nobody reads from any more: Badger may drop what only it could see.
func (s *Store) retire(b *base) {
	b.discard()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stamps = slices.DeleteFunc(s.stamps, func(t uint64) bool { return t == b.stamp })
	if len(s.stamps) > 0 {
		s.db.SetDiscardTs(s.stamps[0])
	}
}

// reclaim recycles the journal segments that no overlay generation in use points into any more.
func (s *Store) reclaim() {
	s.mu.Lock()
	for len(s.generations) > 0 && s.generations[0].refs == 0 {
		s.generations = s.generations[1:]
	}
	oldest := s.active.number
	if len(s.generations) > 0 {
		oldest = s.generations[0].number
	}
	s.mu.Unlock()
	if err := s.journal.recycle(oldest); err != nil {
		s.log.Warn("recycle journal segments", "error", err)
	}
}

// reader is a View's kv.Reader.
type reader struct {
	snap  snapshot
	probe probe
}

func (r *reader) Rev() kv.Rev { return kv.Rev(r.snap.seq) }

func (r *reader) Get(ctx context.Context, keys ...[]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		v, err := r.get(ctx, k)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

// get looks for one key in the overlays, then in Badger.
func (r *reader) get(ctx context.Context, key []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !validKey(key) {
		return nil, fmt.Errorf("get a key of %d bytes: %w", len(key), kv.ErrInvalid)
	}
	v, ok := r.snap.active.get(&r.probe, key, r.snap.seq)
	if !ok && r.snap.frozen != nil {
		v, ok = r.snap.frozen.get(&r.probe, key, r.snap.seq)
	}
	if !ok {
		return r.snap.base.get(key)
	}
	return v.read()
}

// read returns the version's value, nil for a deleted one.
func (v version) read() ([]byte, error) {
	if v.loc.seg != nil {
		return v.loc.read()
	}
	return v.value, nil
}

func (r *reader) Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error {
	_, err := r.scan(ctx, nil, lo, hi, limit, fn)
	return err
}

// scan merges own (may be nil) over the overlays over Badger. stopped says that fn or limit ended it.
func (r *reader) scan(ctx context.Context, own source, lo, hi []byte, limit int, fn func(k, v []byte) bool) (stopped bool, err error) {
	lo, hi = slices.Clone(lo), slices.Clone(hi)
	if len(lo) == 0 || lo[0] == 0 {
		lo = firstKey
	}
	var sources []source // a row hides those of its key in later sources
	if own != nil {
		sources = append(sources, own)
	}
	for _, g := range []*generation{r.snap.active, r.snap.frozen} {
		if g != nil {
			sources = append(sources, newOverlaySource(g, r.snap.seq, lo, hi))
		}
	}
	below := r.snap.base.scan(lo, hi)
	defer below.close()
	return merge(ctx, append(sources, below), limit, fn)
}

// firstKey is the first key that callers may use.
var firstKey = []byte{1}

// View calls fn with a snapshot, as kv.Store says. While it runs, what its snapshot needs of the journal
// and of Badger stays on disk.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	snap, err := s.hold()
	if err != nil {
		return err
	}
	defer s.drop(snap)
	return fn(&reader{snap: snap})
}
