// Package memory is a kv.Store in memory, for tests and for tools that need no durability.
//
// It knows nothing of rows and keeps nothing on disk. Snapshots are honest: a View or a transaction reads
// from a copy-on-write clone of the tree, so what commits meanwhile is not seen, and what a transaction
// read by Get or saw by Scan is compared with the current tree when it commits. To show callers that keep
// what they must not keep, Scan hands out buffers that it overwrites after each call.
//
// All methods may be called concurrently.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/google/btree"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Limits of a store, in bytes but for maxOps: those of kv/local, journal-only values included.
const (
	maxOps      = 1 << 16
	maxTxnBytes = 4 << 20
	maxKey      = 1 << 10
	maxValue    = 1<<20 + 1<<10 // an image of a block of 1 MiB
)

// optimisticRuns is how often a transaction is run beside others before it is run alone.
const optimisticRuns = 4

const treeDegree = 32

// row is one key with its value and the revision that wrote it.
type row struct {
	key   []byte
	value []byte
	rev   kv.Rev
}

func less(a, b row) bool { return bytes.Compare(a.key, b.key) < 0 }

// Store is a kv.Store in memory. Make one with New.
type Store struct {
	commit sync.Mutex // held while a transaction commits; taken before mu
	mu     sync.Mutex // guards what follows; held for moments only
	tree   *btree.BTreeG[row]
	rev    kv.Rev
	closed bool
}

var _ kv.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{tree: btree.NewG(treeDegree, less)}
}

// Caps returns the limits of the store.
func (s *Store) Caps() kv.Caps {
	return kv.Caps{MaxOps: maxOps, MaxTxnBytes: maxTxnBytes, MaxKey: maxKey, MaxValue: maxValue, Exclusive: true}
}

// snapshot clones the tree: the clone and the original copy a node before they change it.
func (s *Store) snapshot() (snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return snapshot{}, kv.ErrClosed
	}
	return snapshot{tree: s.tree.Clone(), rev: s.rev}, nil
}

// View calls fn with a snapshot, as kv.Store says.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	snap, err := s.snapshot()
	if err != nil {
		return err
	}
	return fn(&reader{snap: snap})
}

// Update runs and commits a transaction, as kv.Store says.
func (s *Store) Update(ctx context.Context, _ kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	for run := 0; ; run++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		rev, done, err := s.try(fn, run >= optimisticRuns)
		if done || err != nil {
			return rev, err
		}
	}
}

// try runs fn once and commits if nothing that it read has changed. alone keeps all other transactions
// out meanwhile.
func (s *Store) try(fn func(kv.Txn) error, alone bool) (rev kv.Rev, done bool, err error) {
	if alone {
		s.commit.Lock()
		defer s.commit.Unlock()
	}
	snap, err := s.snapshot()
	if err != nil {
		return 0, false, err
	}
	t := newTxn(snap)
	if err := fn(t); err != nil {
		return 0, false, err
	}
	if t.err != nil {
		return 0, false, t.err
	}
	if len(t.writes) == 0 {
		return snap.rev, true, nil
	}
	if err := t.checkSize(s.Caps()); err != nil {
		return 0, false, err
	}
	if !alone {
		s.commit.Lock()
		defer s.commit.Unlock()
	}
	return s.apply(t)
}

// apply validates and commits t. The caller holds s.commit, so the tree stands still.
func (s *Store) apply(t *txn) (kv.Rev, bool, error) {
	now, err := s.snapshot()
	if err != nil {
		return 0, false, err
	}
	if !t.unchanged(now) {
		return 0, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	for k, w := range t.writes {
		if w.deleted {
			s.tree.Delete(row{key: []byte(k)})
			continue
		}
		s.tree.ReplaceOrInsert(row{key: []byte(k), value: w.value, rev: s.rev})
	}
	return s.rev, true, nil
}

// Sync returns at once: nothing survives a power cut here.
func (s *Store) Sync(_ context.Context, rev kv.Rev) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	if rev > s.rev {
		return fmt.Errorf("sync up to revision %d of %d: %w", rev, s.rev, kv.ErrInvalid)
	}
	return nil
}

// Close drops the rows.
func (s *Store) Close() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	s.closed = true
	s.tree = nil
	return nil
}
