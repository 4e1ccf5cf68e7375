// Package kv is the contract of the ordered key-value stores that hold kmsfs' metadata.
//
// A Store keeps rows: byte-string keys in lexicographic order, each with a value. View reads one
// consistent snapshot. Update runs an optimistic transaction: its reads are validated when it commits,
// and it is run again if another transaction changed what it read. Sync makes committed transactions
// survive a power cut.
//
// The package does not know what a row means, and it never logs. The contract is small enough for an
// embedded store and for a distributed one: there is no append, no increment, no range delete, no
// transaction of unbounded size.
//
// Implementations: kv/memory (in memory, for tests and small tools) and kv/local (journal, overlay and
// Badger; docs/FORMAT.md 8 and 9). Both pass the suite in kv/kvtest.
//
// Keys that begin with byte 0x00 belong to the implementation: callers may neither read nor write them.
package kv

import "context"

// Rev is the revision of a store: it grows with every transaction that changed something. Zero is the
// revision of an empty store.
type Rev uint64

// OpID names one transaction of one session, so that a store on the network can tell a transaction that
// was sent twice. The zero OpID means none. Exclusive stores ignore it.
type OpID struct {
	Session uint64
	Seq     uint64
}

// Caps says what a store can take. All sizes are in bytes.
type Caps struct {
	MaxOps      int  // puts and deletes in one transaction
	MaxTxnBytes int  // keys and values of all puts and deletes of one transaction
	MaxKey      int  // one key
	MaxValue    int  // one value
	Exclusive   bool // nobody else changes the store while it is open
}

// Reader reads one consistent snapshot. It is valid until the function it was passed to returns, and is
// used by one goroutine at a time.
type Reader interface {
	// Get returns the values of keys, in their order; nil stands for a key that is absent. The values
	// are read-only and valid until the function that was given the Reader returns. The keys are not
	// kept. It may block on I/O.
	Get(ctx context.Context, keys ...[]byte) ([][]byte, error)

	// Scan calls fn for the rows with lo <= key < hi in key order, at most limit of them (all if
	// limit <= 0), until fn returns false. A nil lo starts at the first row, a nil hi goes on to the
	// last. k and v are read-only and valid only during the call of fn: fn copies what it keeps. fn may
	// call Get, and may Put and Delete in a Txn; rows that a Txn changes while it scans may or may not
	// be seen in their new state. It may block on I/O.
	Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error

	// Rev returns the revision of the snapshot.
	Rev() Rev
}

// Txn is a transaction: a snapshot and a set of changes that reads see at once.
type Txn interface {
	Reader

	// Put sets key k to v, which must not be empty. k is copied; v passes to the store, and the caller
	// must not change it any more, also when the transaction fails. A key or value outside the store's
	// Caps makes the transaction fail with ErrTooBig or ErrInvalid when it commits.
	Put(k, v []byte)

	// Delete removes key k, which may be absent. k is copied.
	Delete(k []byte)
}

// Store is an ordered key-value store. All methods may be called concurrently.
//
// Errors are sentinels of this package (possibly wrapped), a context's error, or an I/O error.
type Store interface {
	// Caps returns the limits of the store.
	Caps() Caps

	// View calls fn once with a snapshot of everything committed before the call, and returns what fn
	// returns. A View never waits for an Update and never stops one. Error: ErrClosed.
	View(ctx context.Context, fn func(Reader) error) error

	// Update calls fn with a transaction and commits it. If a row that fn read by Get, or the set of
	// rows it saw by Scan, has changed meanwhile, it calls fn again with a new snapshot, so fn must do
	// nothing but through its Txn (and overwrite what it left behind when it was called before). fn may
	// at last be called while all other transactions wait: it must not wait for a lock that a caller of
	// Update may hold, and must not call Update or Sync itself. If fn returns an error, nothing is
	// changed and Update returns that error.
	//
	// When Update returns nil the changes are visible to every later View and survive the death of the
	// process (not yet a power cut: see Sync). The Rev is what to pass to Sync. A transaction without
	// changes writes nothing. An error other than ErrFailed means that nothing was changed; after
	// ErrFailed the changes may turn up when the store is opened again.
	//
	// Errors: ErrConflict, ErrTooBig, ErrInvalid, ErrNoSpace, ErrReadOnly, ErrClosed, ErrFailed.
	Update(ctx context.Context, id OpID, fn func(Txn) error) (Rev, error)

	// Sync returns when every transaction up to rev survives a power cut. Concurrent calls share their
	// work. Errors: ErrFailed, ErrClosed.
	Sync(ctx context.Context, rev Rev) error

	// Close makes everything durable and releases the store. Later calls of any method return ErrClosed.
	// It waits for running calls.
	Close() error
}
