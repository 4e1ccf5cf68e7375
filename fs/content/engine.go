package content

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

var errTemp = errors.New("not there yet")

// Journal is what the engine needs of the KV store besides transactions.
type Journal interface {
	// Sync returns when everything up to rev survives a power cut.
	Sync(ctx context.Context, rev kv.Rev) error
	// Checkpoint settles images and makes everything committed before the call part of the checkpointed state.
	Checkpoint(ctx context.Context) error
	// CheckpointDue receives when the journal has grown so that a checkpoint should be made.
	CheckpointDue() <-chan struct{}
}

// Config is what New needs. All fields down to Namer are required.
type Config struct {
	Meta    *meta.Store
	Keys    meta.Keyring
	KV      Journal
	Objects *object.Store
	Namer   *blockcrypt.ObjectNamer

	// InlineLimit is the largest size in bytes of a file that is kept in its inline row, at most blockcrypt.MaxInline. 0: none is.
	InlineLimit int
	// ReadOnly: nothing is written, checkpointed or destroyed; Run does nothing.
	ReadOnly bool
	// SyncEvery bounds how long a change may stay undurable; 0 means 5 s.
	SyncEvery time.Duration
	// CheckpointEvery is how long changes may stay in the journal; 0 means 30 s.
	CheckpointEvery time.Duration
	// Log receives what goes wrong in the background. nil: silent.
	Log *slog.Logger
}

// Engine is the contents of one open volume. All methods are safe for concurrent use.
type Engine struct {
}

// New returns an engine. It reads nothing; Run starts its upkeep.
func New(cfg Config) (*Engine, error) { return nil, errTemp }

// Open returns the content of a regular file, shared with all others who have it open. Each Open needs one File.Close. It reads the inode row
// and needs no key.
//
// Errors: meta.ErrNotFound, ErrNotRegular, ErrClosed.
func (e *Engine) Open(ctx context.Context, ino meta.Ino) (*File, error) { return nil, errTemp }

// Removal guards one namespace operation that may take the last name of an inode. Its Busy is the callback that meta.Store.Unlink and Rename
// ask whether the inode is in use; it makes an Open of an inode that is about to be freed wait until the operation is over.
//
//	r := engine.Removal()
//	defer r.Done()
//	victim, err := store.Unlink(ctx, parent, name, r.Busy)
//	...
//	if victim is an orphan: engine.Unlinked(ctx, victim.Ino)
type Removal struct {
}

// Removal begins one.
func (e *Engine) Removal() *Removal { return &Removal{} }

// Busy tells whether the inode is open.
func (r *Removal) Busy(ino meta.Ino) bool { return false }

// Done ends it, whether it succeeded or not.
func (r *Removal) Done() {}

// IsOpen tells whether anybody has the inode open.
func (e *Engine) IsOpen(ino meta.Ino) bool { return false }

// Unlinked says that the inode became an orphan, by an unlink, a rename or as a temporary file. It is released (meta.Store.ReleaseOrphan) when
// its last user closes it, at once if there is none.
func (e *Engine) Unlinked(ctx context.Context, ino meta.Ino) error { return errTemp }

// SyncContent makes what was written directly to an inode's object durable, and says so in the journal, without waiting for the journal: what
// must happen before a rename puts the inode in place of another file. It costs nothing if nothing was written directly.
func (e *Engine) SyncContent(ctx context.Context, ino meta.Ino) error { return errTemp }

// SyncAll makes everything that was changed in the volume durable, names and attributes included.
func (e *Engine) SyncAll(ctx context.Context) error { return errTemp }

// Checkpoint makes a checkpoint and then carries out the destruction that it covers.
func (e *Engine) Checkpoint(ctx context.Context) error { return errTemp }

// Run does the upkeep until ctx is done: first a checkpoint, so that what a crash left behind is dealt with; then a sync at least every
// SyncEvery while anything is dirty, a checkpoint when the journal asks for one or every CheckpointEvery, and garbage after each.
func (e *Engine) Run(ctx context.Context) error { return errTemp }

// Close syncs everything. No File may be open, Run must have returned, and the KV store must still be open.
func (e *Engine) Close(ctx context.Context) error { return errTemp }

// MaxFileSize returns the largest size of a file in bytes that the lower filesystem and the format allow.
func (e *Engine) MaxFileSize() uint64 { return 0 }
