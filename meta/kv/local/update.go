package local

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// optimisticRuns is how often a transaction runs beside others before it runs alone, so that it cannot
// starve.
const optimisticRuns = 4

// keepEncoder is the largest record buffer that is kept for reuse.
const keepEncoder = 256 << 10

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// Update runs and commits a transaction, as kv.Store says. It blocks (until ctx is done) while the journal
// is full and a checkpoint frees segments; it starts one if none runs.
func (s *Store) Update(ctx context.Context, _ kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	if s.opts.ReadOnly {
		return 0, kv.ErrReadOnly
	}
	for run := 0; ; run++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := s.failure(); err != nil {
			return 0, err
		}
		rev, done, err := s.attempt(ctx, fn, run >= optimisticRuns)
		if done || err != nil {
			return rev, err
		}
		s.conflicts.Add(1)
	}
}

// attempt runs fn once and commits, unless something that fn read has changed: then done is false. alone
// keeps all other transactions out meanwhile.
func (s *Store) attempt(ctx context.Context, fn func(kv.Txn) error, alone bool) (rev kv.Rev, done bool, err error) {
	if alone {
		s.commit.Lock()
		defer s.commit.Unlock()
	}
	snap, err := s.hold()
	if err != nil {
		return 0, false, err
	}
	s.calls.Add(1) // beyond drop
	defer s.calls.Done()
	t := newTxn(s, snap)
	if err := s.run(t, fn); err != nil {
		return 0, false, err
	}
	if len(t.writes) == 0 {
		return kv.Rev(snap.seq), true, nil
	}
	if err := t.check(); err != nil {
		return 0, false, err
	}
	e := encoders.Get().(*encoder)
	defer func() {
		if cap(e.buf) <= keepEncoder {
			encoders.Put(e)
		}
	}()
	e.encode(t.writes)
	if !alone {
		s.commit.Lock()
		defer s.commit.Unlock()
	}
	return s.commitTxn(ctx, t, e)
}

// run calls fn and gives the snapshot back: what is left to do needs no more I/O from it, and a
// transaction that waits for room must not pin the segments that would give it.
func (s *Store) run(t *txn, fn func(kv.Txn) error) error {
	defer s.drop(t.snap)
	if err := fn(t); err != nil {
		return err
	}
	return t.err
}

// commitTxn validates t and appends its record. The caller holds s.commit; it is released while the
// journal has no room.
func (s *Store) commitTxn(ctx context.Context, t *txn, e *encoder) (rev kv.Rev, done bool, err error) {
	for {
		if err := s.failure(); err != nil {
			return 0, false, err
		}
		if t.stale() {
			return 0, false, nil
		}
		if s.active.bytes > s.opts.MaxOverlay && !s.active.beyond {
			if err := s.waitMemory(ctx); err != nil {
				return 0, false, err
			}
			continue
		}
		p, seg, off, err := s.journal.append(e, s.active.number)
		switch {
		case err == nil:
			s.publish(t.writes, p.seq, location{seg: seg, off: off + int64(e.blobOff())})
			s.signalDue()
			return kv.Rev(p.seq), true, nil
		case errors.Is(err, errNoSpare), errors.Is(err, errFull):
			if err := s.waitRoom(ctx, err, segmentFor(e)); err != nil {
				return 0, false, err
			}
		default:
			return 0, false, s.fail(err)
		}
	}
}

// publish enters the changes into the overlay and makes them visible. The caller holds s.commit.
func (s *Store) publish(writes []write, seq uint64, blob location) {
	s.mu.Lock()
	keep := s.live.oldest(s.seq)
	s.mu.Unlock()
	g := s.active
	g.mu.Lock()
	for i := range writes {
		g.insert(writes[i].key, writes[i].version(seq, blob), keep)
	}
	g.mu.Unlock()
	s.mu.Lock()
	s.seq = seq
	s.updates++
	s.mu.Unlock()
}

// version is the change as the overlay keeps it; blob is where the record's blob lies.
func (w *write) version(seq uint64, blob location) version {
	v := version{seq: seq, deleted: w.deleted}
	switch {
	case w.deleted:
	case w.journalOnly:
		v.loc = location{seg: blob.seg, off: blob.off + int64(w.blobOff), len: len(w.value)}
	default:
		v.value = w.value
	}
	return v
}

// waitRoom waits for a spare segment of at least so many bytes, or for a checkpoint that frees some. The caller holds s.commit, which
// is released meanwhile, so that the checkpoint can freeze the overlay.
func (s *Store) waitRoom(ctx context.Context, why error, least int64) error {
	s.commit.Unlock()
	defer s.commit.Lock()
	if !errors.Is(why, errNoSpare) {
		return s.waitCheckpoint(ctx)
	}
	err := s.journal.supply.wait(ctx, least)
	for try := 0; try < 2 && errors.Is(err, kv.ErrNoSpace); try++ { // the first may be one that began too early
		if failed := s.waitCheckpoint(ctx); failed != nil {
			return failed
		}
		if s.journal.supply.has(least) {
			return nil
		}
	}
	return err
}

// waitMemory waits for a checkpoint that takes the overlay over. One that fails, on a full disk, is no reason to refuse updates as long as the journal
// takes them. The caller holds s.commit, which is released meanwhile.
func (s *Store) waitMemory(ctx context.Context) error {
	g := s.active
	s.commit.Unlock()
	err := s.waitCheckpoint(ctx)
	s.commit.Lock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	g.beyond = err != nil
	return nil
}

// waitCheckpoint waits for a checkpoint that is under way, or for a new one.
func (s *Store) waitCheckpoint(ctx context.Context) error {
	run := s.background.start()
	select {
	case <-run.done:
		if run.err != nil {
			return fmt.Errorf("journal is full: %w", run.err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signalDue tells whoever listens that the journal or the overlay is half full. The caller holds s.commit.
func (s *Store) signalDue() {
	if waiting, due := s.Backlog(); waiting <= due && s.active.bytes <= s.opts.MaxOverlay/2 {
		return
	}
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// Sync makes everything up to rev durable, as kv.Store says. Concurrent calls share one flush.
func (s *Store) Sync(ctx context.Context, rev kv.Rev) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if s.opts.ReadOnly {
		return nil
	}
	if head, _ := s.journal.mark(); uint64(rev) > head.seq {
		return fmt.Errorf("sync up to revision %d of %d: %w", rev, head.seq, kv.ErrInvalid)
	}
	return s.syncTo(ctx, uint64(rev))
}

// Hasten has the disk begin with what was committed, without waiting for it: a Sync that comes soon has less to wait for. It promises nothing.
func (s *Store) Hasten() {
	if s.opts.ReadOnly || s.enter() != nil {
		return
	}
	defer s.calls.Done()
	s.journal.begin()
}

// syncTo makes the chain durable up to seq.
func (s *Store) syncTo(ctx context.Context, seq uint64) error {
	for {
		if err := s.failure(); err != nil {
			return err
		}
		done, wait := s.durable.join(seq)
		switch {
		case done:
			return nil
		case wait == nil:
			p, err := s.journal.flush()
			if err != nil {
				err = s.fail(err)
			}
			s.durable.finish(p, err)
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
