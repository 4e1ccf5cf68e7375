package meta

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Config is what Open needs.
type Config struct {
	KV      kv.Store        // not closed by the Store
	Volume  VolumeID        // part of every row's associated data
	RowsKey *blockcrypt.Key // seals structure rows; not kept, the caller wipes it
	Keys    Keyring         // zone keys; may be nil for a Store that only walks structure (recovery, fsck without keys)
	Now     func() Time     // clock; nil is the system's
	// CacheRows bounds the decoded rows kept in memory, inode and dentry rows together. 0 is DefaultCacheRows, negative is none.
	CacheRows int
}

// DefaultCacheRows is the bound of the row cache if Config says nothing: some 60 MB when full.
const DefaultCacheRows = 128 << 10

// Store is the metadata of one open volume. It is safe for concurrent use.
type Store struct {
	kv     kv.Store
	caps   kv.Caps
	batch  int // rows of one inode that one transaction removes or repairs
	volume VolumeID
	rows   *rowSealer
	keys   Keyring
	now    func() Time
	cache  *rowCache
	inodes inodeAllocator
	commit commitClock
	grace  grace

	params paramsCache // of new files, as in the zones' rows
	fresh  freshKeys   // that a CMK has just made
}

// Open returns a Store over a formatted KV store. It reads nothing.
//
// Errors: ErrInvalid (no KV store or rows key).
func Open(cfg Config) (*Store, error) {
	if cfg.KV == nil || cfg.RowsKey == nil {
		return nil, fmt.Errorf("open metadata: no KV store or rows key: %w", ErrInvalid)
	}
	rows, err := newRowSealer(cfg.Volume, cfg.RowsKey)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	s := &Store{kv: cfg.KV, caps: cfg.KV.Caps(), volume: cfg.Volume, rows: rows, keys: cfg.Keys, now: cfg.Now}
	s.batch = removeBatch
	if s.caps.MaxOps > 0 {
		s.batch = max(min(removeBatch, s.caps.MaxOps/2), 1) // the rest is for the rows of the inode itself
	}
	if s.now == nil {
		s.now = func() Time { return TimeOf(time.Now()) }
	}
	if cfg.CacheRows == 0 {
		cfg.CacheRows = DefaultCacheRows
	}
	s.cache = newRowCache(cfg.CacheRows)
	s.commit.news = make(chan struct{}, 1)
	return s, nil
}

// Volume returns the volume's id.
func (s *Store) Volume() VolumeID { return s.volume }

// LastRev returns the newest revision that this Store committed, 0 if none: what a sync of the whole namespace has to reach.
func (s *Store) LastRev() kv.Rev { return s.commit.last() }

// Changed returns a channel that receives after a transaction was committed, once for all since it was received from.
func (s *Store) Changed() <-chan struct{} { return s.commit.news }

// View runs fn on one consistent snapshot. Writes in it fail with ErrReadOnlyTx. Slices that tx hands out are read-only and valid until fn
// returns, unless a method says otherwise.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	return s.kv.View(ctx, func(r kv.Reader) error { return fn(newTx(s, ctx, r, nil)) })
}

// Update runs fn as one atomic transaction and returns the revision it was committed at. On return it survives a crash of the process; a
// power cut only after KV.Sync of that revision. fn may run more than once: it must have no effect but through tx, and set what it
// captures anew in each run. An error of fn aborts and is returned.
//
// Errors: fn's, and the KV store's (kv.ErrConflict when retries are exhausted, kv.ErrTooBig, ErrNoSpace, ErrReadOnly, kv.ErrFailed).
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) (kv.Rev, error) {
	turn := s.grace.enter()
	defer s.grace.leave(turn)
	var tx *Tx
	rev, err := s.kv.Update(ctx, kv.OpID{}, func(w kv.Txn) error {
		tx.release(0)
		tx = newTx(s, ctx, w, w)
		if err := fn(tx); err != nil {
			return err
		}
		return tx.flush()
	})
	if err != nil {
		tx.release(0)
		return 0, err
	}
	tx.release(rev)
	s.commit.advance(rev)
	return rev, nil
}

// CacheCounts returns how often a decoded row was found in memory since the store was opened, and how often it was not.
func (s *Store) CacheCounts() (hits, misses uint64) { return s.cache.counts() }
