package local

import (
	"context"
	"errors"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Store is a kv.Store on the local disk. Make one with Create and Open. All methods may be called
// concurrently.
type Store struct {
}

var _ kv.Store = (*Store)(nil)

var errTemp = errors.New("not there yet")

// Create makes the directories and an empty store under opts.Dir, durably, and closes it again. Only Dir,
// Volume, Key, SegmentSize, MaxJournal and Files are used. Errors: fs.ErrExist if there is a store already,
// kv.ErrNoSpace.
func Create(ctx context.Context, opts Options) error { return errTemp }

// Open opens the store under opts.Dir and recovers what the last checkpoint does not hold. It blocks while
// it reads the journal. Errors: kv.ErrLocked if another process has it, kv.ErrRollback, kv.ErrCorrupt (a
// wrong key or volume too), fs.ErrNotExist if there is none, and what opts.Replay returns.
func Open(ctx context.Context, opts Options) (*Store, error) { return nil, errTemp }

// Caps returns the limits of the store. Journal-only values may be longer than MaxValue, up to
// MaxTxnBytes.
func (s *Store) Caps() kv.Caps { return kv.Caps{} }

// View calls fn with a snapshot, as kv.Store says. While it runs, what its snapshot needs of the journal
// and of Badger stays on disk.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error { return errTemp }

// Update runs and commits a transaction, as kv.Store says. It blocks (until ctx is done) while the journal
// is full and a checkpoint frees segments; it starts one if none runs.
func (s *Store) Update(ctx context.Context, id kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	return 0, errTemp
}

// Sync makes everything up to rev durable, as kv.Store says. Concurrent calls share one flush.
func (s *Store) Sync(ctx context.Context, rev kv.Rev) error { return errTemp }

// Checkpoint brings everything committed before the call into Badger, durably, and settles the
// journal-only rows. Updates go on meanwhile. Checkpoints run one after another. If it fails, nothing is
// lost and a later one does the work. Errors: kv.ErrFailed, kv.ErrNoSpace, kv.ErrReadOnly, and the
// Settler's.
func (s *Store) Checkpoint(ctx context.Context) error { return errTemp }

// CheckpointDue returns a channel that receives when the journal has grown past half of MaxJournal since
// the last checkpoint. It holds at most one signal.
func (s *Store) CheckpointDue() <-chan struct{} { return nil }

// Head returns the newest durable point of the chain, for anchoring. It works after Close too.
func (s *Store) Head() Head { return Head{} }

// Stats returns figures for status and tests.
func (s *Store) Stats() Stats { return Stats{} }

// Close syncs, checkpoints, marks the store clean and releases it. After a failure (kv.ErrFailed) it only
// releases and returns the failure. It waits for running calls.
func (s *Store) Close() error { return errTemp }

// Stats are figures of an open store.
type Stats struct {
	Generation uint64 // of this opening
	Sequence   uint64 // last committed record
	Durable    uint64 // last record that survives a power cut
	Checkpoint uint64 // last record in Badger

	JournalBytes int64 // waiting for a checkpoint
	JournalFiles int   // segments on disk, spare ones included
	OverlayRows  int   // keys in memory

	Updates     uint64        // committed
	Conflicts   uint64        // runs of transactions that were thrown away
	Syncs       uint64        // flushes of the journal
	Checkpoints uint64        // completed
	LastPause   time.Duration // how long the last checkpoint kept updates out

	Recovery Recovery
	Failed   error // why the store failed, or nil
}

// Recovery says what Open had to do.
type Recovery struct {
	Clean    bool // the store had been closed
	Records  int  // replayed
	Bytes    int64
	Duration time.Duration
}
