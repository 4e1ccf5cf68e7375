package local

import (
	"context"
	"log/slog"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Defaults and bounds of Options, in bytes.
const (
	DefaultSegmentSize = 8 << 20
	DefaultMaxJournal  = 256 << 20
	DefaultMaxOverlay  = 96 << 20

	leastSegment   = 256 << 10 // of a journal that was just made
	minSegmentSize = 16 << 10
	maxSegmentSize = 64 << 20
	minSegments    = 3 // of MaxJournal
)

// Options says what to open and how. Dir, Volume and Key are required.
type Options struct {
	// Dir is the directory that holds meta/ (Badger) and journal/ (segments).
	Dir string

	// Volume is bound into every key that the journal uses.
	Volume blockcrypt.VolumeID

	// Key is the journal key. Open derives what it needs and keeps a copy until Close; the caller may
	// wipe its own when Open returns.
	Key *blockcrypt.Key

	// Settler receives journal-only rows at checkpoints. Nil: there are none.
	Settler Settler

	// Replay is called during Open for every record after the last checkpoint, in order. An error makes
	// Open fail with it. Nil: nobody asks.
	Replay func(Record) error

	// Head is what the caller knows of the store from outside of it (an anchor): Open fails with
	// kv.ErrRollback if the journal's chain does not contain it. The zero Head is not checked.
	Head Head

	// SegmentSize is how large a journal segment becomes, 16 KiB to 64 MiB; zero means DefaultSegmentSize. It
	// bounds a transaction. Those of a new store are smaller. MaxJournal is how much may wait for a checkpoint before Update blocks, at
	// least three segments; zero means DefaultMaxJournal.
	SegmentSize int64
	MaxJournal  int64

	// MaxOverlay bounds the memory, in bytes, of the rows that came since the last checkpoint began: with half of it a checkpoint is due, beyond it
	// Update blocks until one has ended. Twice as much is there at most, while a checkpoint runs. Zero means DefaultMaxOverlay.
	MaxOverlay int64

	// MinFree bounds how many bytes are kept free on the disk for checkpoints, because Badger dies on a full
	// one. Half of them, or twice what there are of rows if that is less, and as many as wait in the journal, must
	// be free for one to begin. Zero means what Badger needs at most; negative means unchecked.
	MinFree int64

	// Ballast keeps a file of up to MinFree bytes in Dir, as much as the next checkpoint may need, that is emptied when
	// one would not fit otherwise. One that is there is used also without it, but not filled.
	Ballast bool

	// Export keeps a second copy of the rows under Dir/export, from which Rebuild makes Badger anew.
	Export bool

	// ReadOnly refuses updates and checkpoints. The journal is still replayed, into memory.
	ReadOnly bool

	// Log receives what recovery did and what failed in the background. Nil: silent.
	Log *slog.Logger

	// Files is the journal directory's file layer. Nil: the operating system's.
	Files Files

	// Step is called before each step of a checkpoint, with its name: tests look around there, or cut the
	// power. Nil: nobody asks.
	Step func(name string)

	trouble *trouble // of Badger; set by withDefaults
	meta    string   // name of Badger's directory; "": metaName
}

// Settler is where journal-only rows go. Its methods are called by checkpoints, one at a time; it may read
// the store (View), but must not change it or wait for something that does.
type Settler interface {
	// JournalOnly reports whether rows under key live in the journal only: they never enter Badger, are
	// read back from their segment, and vanish when a checkpoint has settled them. It must be quick,
	// always give the same answer for a key, and be safe for concurrent use.
	JournalOnly(key []byte) bool

	// Settle takes the newest value of a journal-only row whose record is durable. value is valid only
	// during the call. It may see a row again after a crash or an error.
	Settle(ctx context.Context, key, value []byte) error

	// Sync makes durable everything that was settled, and all else that the rows of records committed
	// before this checkpoint began point to. It is called once in every checkpoint, before rows enter
	// Badger. An error other than the context's makes the store fail (kv.ErrFailed): what a failed sync
	// left on disk is unknown, and a later one would not tell.
	Sync(ctx context.Context) error
}

// KV is one row.
type KV struct {
	Key, Value []byte
}

// Record is one committed transaction as recovery sees it. All slices are valid only during the call of
// Options.Replay.
type Record struct {
	Seq     uint64
	Puts    []KV // journal-only rows included
	Deletes [][]byte

	// Before returns the value that a key had just before this record, nil if it was absent. For keys
	// that no replayed record has changed yet this is the state in Badger: the last checkpoint's, or
	// a younger one where a checkpoint was cut short, whose Settler.Sync had succeeded by then.
	Before func(key []byte) ([]byte, error)
}

// Head is a point of the journal's chain. The Tag authenticates the whole history up to the record with
// this Sequence.
type Head struct {
	Generation uint64 // how often the store had been opened for writing
	Sequence   uint64 // last record
	Tag        [TagSize]byte

	// Closed, in Options.Head: the store was closed at this point, so its chain must end there too.
	Closed bool
}

// TagSize is the length of a record's authentication tag in bytes.
const TagSize = 16
