package content

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/codec"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Defaults of Config.
const (
	DefaultSyncEvery       = 5 * time.Second
	DefaultCheckpointEvery = 30 * time.Second
)

// Bounds of what is cached for all files together.
const (
	cachedRows    = 16 << 10 // decoded map rows, some 1.7 KB each
	cachedCiphers = 4 << 10  // expanded block keys
)

// Journal is what the engine needs of the KV store besides transactions.
type Journal interface {
	// Sync returns when everything up to rev survives a power cut.
	Sync(ctx context.Context, rev kv.Rev) error
	// Hasten has the disk begin with what was committed, without waiting for it, and promises nothing.
	Hasten()
	// Checkpoint settles images and makes everything committed before the call part of the checkpointed state.
	Checkpoint(ctx context.Context) error
	// CheckpointDue receives when the journal has grown so that a checkpoint should be made.
	CheckpointDue() <-chan struct{}
	// Backlog returns how many bytes of the journal wait for a checkpoint, and from how many on one is due.
	Backlog() (waiting, due int64)
}

// Config is what New needs. All fields down to Namer are required.
type Config struct {
	Meta    *meta.Store
	Keys    meta.Keyring
	KV      Journal
	Objects *object.Store
	Namer   *blockcrypt.ObjectNamer

	// ReadOnly: nothing is written, checkpointed or destroyed; Run only waits.
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
	cfg     Config
	coder   *codec.Coder
	meta    *meta.Store
	keys    meta.Keyring
	objects *object.Store
	namer   *blockcrypt.ObjectNamer
	log     *slog.Logger

	maxSize uint64 // of a file
	maxUses uint64 // of a block key
	byImage uint64 // up to this size files move by images
	small   uint64 // up to this size new files begin in the journal
	atOnce  uint64 // bytes that a step of a move takes at most

	rows    *lru[rowKey, *meta.MapRow]
	ciphers *lru[cipherKey, *cipherEntry]
	keyHeld chan struct{} // capacity 1; full when a cipher came since Run has looked

	syncers syncers

	// tidy: a checkpoint has been made since the volume was opened. Before, images and released slots of earlier may exist that no residue
	// knows of, and data that was written but not synced.
	tidy atomic.Bool

	moved atomic.Uint64 // bytes that were moved to other objects since the last checkpoint began

	checkpointing sync.Mutex // one checkpoint at a time, garbage included

	mu       sync.Mutex
	files    map[meta.Ino]*File    // guarded by mu
	residues map[meta.Ino]*residue // guarded by mu
	removing map[meta.Ino]*gate    // guarded by mu; inodes that an operation may free
	closed   bool                  // guarded by mu

	durable durability
}

// rowKey names a map row.
type rowKey struct {
	ino meta.Ino
	row uint64
}

// New returns an engine. It reads no row; Run starts its upkeep.
func New(cfg Config) (*Engine, error) {
	if cfg.Meta == nil || cfg.Keys == nil || cfg.KV == nil || cfg.Objects == nil || cfg.Namer == nil {
		return nil, errors.New("content: incomplete Config")
	}
	if cfg.SyncEvery <= 0 {
		cfg.SyncEvery = DefaultSyncEvery
	}
	if cfg.CheckpointEvery <= 0 {
		cfg.CheckpointEvery = DefaultCheckpointEvery
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	space, err := cfg.Objects.Space()
	if err != nil {
		return nil, err
	}
	coder, err := codec.New()
	if err != nil {
		return nil, err
	}
	return &Engine{
		coder: coder,
		cfg:   cfg, meta: cfg.Meta, keys: cfg.Keys, objects: cfg.Objects, namer: cfg.Namer, log: cfg.Log,
		maxSize:  min(blockcrypt.MaxFileSize, uint64(space.MaxFileSize)/blockcrypt.MaxBlockSize*blockcrypt.MaxBlockSize),
		maxUses:  blockcrypt.MaxKeyUses,
		byImage:  movedByImage,
		small:    smallFile,
		atOnce:   mostStep,
		rows:     newLRU[rowKey, *meta.MapRow](cachedRows),
		ciphers:  newLRU[cipherKey, *cipherEntry](cachedCiphers),
		keyHeld:  make(chan struct{}, 1),
		syncers:  newSyncers(),
		files:    map[meta.Ino]*File{},
		residues: map[meta.Ino]*residue{},
		removing: map[meta.Ino]*gate{},
	}, nil
}

// MaxFileSize returns the largest size of a file in bytes that the lower filesystem and the format allow.
func (e *Engine) MaxFileSize() uint64 { return e.maxSize }

// Open returns the content of a regular file, shared with all others who have it open. Each Open needs one File.Close. It reads the inode row
// and needs no key.
//
// Errors: meta.ErrNotFound, ErrNotRegular, ErrClosed.
func (e *Engine) Open(ctx context.Context, ino meta.Ino) (*File, error) {
	for {
		f, wait, err := e.hold(ino)
		switch {
		case err != nil:
			return nil, err
		case wait == nil:
			return f, f.load(ctx)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// hold returns the File of ino with one more user, or what to wait for.
func (e *Engine) hold(ino meta.Ino) (f *File, wait <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, ErrClosed
	}
	if g := e.removing[ino]; g != nil {
		return nil, g.open, nil
	}
	f = e.files[ino]
	if f == nil {
		r := e.residues[ino]
		if r == nil {
			r = &residue{ino: ino}
			e.residues[ino] = r
		}
		f = &File{e: e, ino: ino, res: r}
		e.files[ino] = f
	}
	f.users++
	return f, nil, nil
}

// release takes one user off f. It tells whether the inode has to be freed now.
func (e *Engine) release(f *File) (free bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.users--
	if f.users < 0 {
		panic("content: File closed twice")
	}
	if f.users > 0 {
		return false
	}
	delete(e.files, f.ino)
	if f.orphan || f.res.empty() {
		delete(e.residues, f.ino)
	}
	return f.orphan
}

// IsOpen tells whether anybody has the inode open.
func (e *Engine) IsOpen(ino meta.Ino) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.files[ino] != nil
}

// Unlinked says that inodes became orphans, by an unlink, a rename or as temporary files. Each is released (meta.Store.ReleaseOrphans) when its last user closes it, at
// once if there is none. An orphan that has a name again by then stays. After an error some of
// them may have been released: calling again for each tells whose it is.
func (e *Engine) Unlinked(ctx context.Context, inos ...meta.Ino) error {
	unused := make([]meta.Ino, 0, len(inos))
	e.mu.Lock()
	for _, ino := range inos {
		if f := e.files[ino]; f != nil {
			f.orphan = true
			continue
		}
		delete(e.residues, ino)
		unused = append(unused, ino)
	}
	e.mu.Unlock()
	return e.free(ctx, unused...)
}

// free releases orphans that nobody has open.
func (e *Engine) free(ctx context.Context, inos ...meta.Ino) error {
	if err := e.meta.ReleaseOrphans(ctx, inos...); err != nil {
		return fmt.Errorf("free inodes: %w", err)
	}
	return nil
}

func (e *Engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// object returns the name of an inode's object.
func (e *Engine) object(ino meta.Ino, serial uint64) object.ID {
	return object.ID(e.namer.ID(uint64(ino), serial))
}

// Close syncs everything and makes a last checkpoint. No File may be open, Run must have returned, and the KV store must still be open.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	already := e.closed
	e.mu.Unlock()
	if already {
		return nil
	}
	var err error
	if !e.cfg.ReadOnly {
		err = e.checkpoint(ctx) // opens files to carry out garbage
	}
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	return err
}

// CacheCounts says how often something was found in one of the engine's caches since it was made, and how often it was not.
type CacheCounts struct {
	RowHits, RowMisses uint64 // rows of block maps
	KeyHits, KeyMisses uint64 // expanded keys of files
}

// CacheCounts returns the counts so far.
func (e *Engine) CacheCounts() (c CacheCounts) {
	c.RowHits, c.RowMisses = e.rows.counts()
	c.KeyHits, c.KeyMisses = e.ciphers.counts()
	return c
}
