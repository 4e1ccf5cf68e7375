package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// ExitPanic is the exit code of a process that ended because a request panicked.
const ExitPanic = 70

// Config is what New needs. Meta, Content, Keys and Lower are required.
type Config struct {
	Meta    *meta.Store
	Content *content.Engine
	Keys    meta.Keyring // asked at open, so that a missing key is an error there and not at write-back

	// Lower is a directory on the filesystem that holds the volume: what statfs(2) reports.
	Lower string
	// SyncNames makes all committed changes of names and attributes durable: what fsync of a directory needs. nil: Content.SyncAll.
	SyncNames func(context.Context) error
	// Reserve is the space in bytes that is kept free on the lower filesystem for what has been accepted already: dirty pages, journal,
	// checkpoints. 0: DefaultReserve, or less on a small filesystem.
	Reserve uint64
	// Owed returns how many of the bytes that are free there have been promised already, by what waits in the journal. nil: none.
	Owed func() uint64
	// Access decides requests beyond permissions. nil: nobody does.
	Access Decider
	// MoveZone is needed to rename the directory of a zone; nil: that is refused with EXDEV.
	MoveZone ZoneMover
	// Queued is told when a file was moved into another zone and waits to be sealed anew, in the queue of a job; nil: nobody.
	Queued func()
	// Attribute answers for attributes of the root directory that are not stored, by their names; each reader has its own. false: there is no such one; a nil value:
	// it has none now. nil: there are none.
	Attribute func(by access.Requester, name string) ([]byte, bool)
	// ReadOnly: nothing is written, not even access times.
	ReadOnly bool
	// NoAtime: access times are not kept.
	NoAtime bool
	// Recorder gets an event for what requests find changed behind our back. nil: the log is told alone.
	Recorder audit.Recorder
	// Log receives what an administrator has to know. nil: silent.
	Log *slog.Logger
	// Fatal is called when a request panicked, and must not return: state may be half changed, and recovery is the journal's job. nil: log and exit
	// the process with ExitPanic.
	Fatal func(reason any, stack []byte)
}

// FS answers the kernel's requests for one open volume. It is made by New, mounted by Mount, and closed by Close when the mount is gone. Its methods
// under fuse.RawFileSystem are for a FUSE transport only; they follow the contract there.
type FS struct {
	fuse.RawFileSystem // what is not implemented, see assert.go

	meta      *meta.Store
	content   *content.Engine
	keys      meta.Keyring
	moveZone  ZoneMover
	queued    func()
	attribute func(access.Requester, string) ([]byte, bool)
	access    Decider // nil: permissions decide alone
	syncNames func(context.Context) error
	readOnly  bool
	fills     bool // small files are put into the page cache when they are opened
	log       *slog.Logger
	fatal     func(reason any, stack []byte)

	nodes   *nodeTable
	handles *handleTable
	atimes  *atimes
	lapsed  *lapsed
	ahead   *ahead
	space   *space
	upkeep  *upkeep
	faults  faultLimiter
	damage  *damageLog
	kernel  atomic.Pointer[notifier] // set by connect
	meter   Meter                    // set before the first request; nil: nothing is measured
}

// notifier is the way to tell the kernel something that it did not ask for.
type notifier interface {
	InodeNotify(node uint64, off int64, length int64) fuse.Status
	InodeStore(node uint64, data []byte) fuse.Status
}

// New returns a filesystem over an open volume. It reads nothing.
//
// Errors: what opening Config.Lower gives.
func New(cfg Config) (*FS, error) {
	if cfg.Meta == nil || cfg.Content == nil || cfg.Keys == nil {
		return nil, fmt.Errorf("new filesystem: incomplete configuration: %w", meta.ErrInvalid)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	space, err := openSpace(cfg)
	if err != nil {
		return nil, fmt.Errorf("new filesystem: %w", err)
	}
	fs := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		meta:          cfg.Meta,
		content:       cfg.Content,
		keys:          cfg.Keys,
		access:        cfg.Access,
		moveZone:      cfg.MoveZone,
		queued:        cfg.Queued,
		attribute:     cfg.Attribute,
		syncNames:     cfg.SyncNames,
		readOnly:      cfg.ReadOnly,
		fills:         kernelFills(),
		log:           cfg.Log,
		fatal:         cfg.Fatal,
		nodes:         newNodeTable(),
		handles:       newHandleTable(),
		lapsed:        newLapsed(),
		space:         space,
	}
	if fs.syncNames == nil {
		fs.syncNames = fs.content.SyncAll
	}
	if fs.fatal == nil {
		fs.fatal = fs.exitOnPanic
	}
	fs.damage = newDamageLog(fs.meta, cfg.Recorder, fs.log)
	fs.atimes = newAtimes(fs.meta, cfg.NoAtime || cfg.ReadOnly)
	fs.upkeep = newUpkeep(fs)
	fs.atimes.onFirst = func() { kick(fs.upkeep.soon) }
	fs.ahead = newAhead(fs)
	fs.space.onShort = fs.upkeep.shortage
	if !cfg.ReadOnly {
		fs.space.make = fs.content.Checkpoint
	}
	return fs, nil
}

// start does what comes before the first request: what a crash left without a name is released, upkeep begins.
func (fs *FS) start(ctx context.Context) error {
	if !fs.readOnly {
		if err := fs.meta.Orphans(ctx, func(ino meta.Ino) error { return fs.content.Unlinked(ctx, ino) }); err != nil {
			return fmt.Errorf("release what a crash left without a name: %w", err)
		}
	}
	fs.upkeep.start()
	fs.ahead.start()
	return nil
}

// Close ends what requests left behind, when the mount is gone or was never there: handles are closed, orphans released, access times written. The
// volume below stays open and is not synced. It must be called once, after the Server's Done.
func (fs *FS) Close(ctx context.Context) error {
	fs.ahead.stop()
	fs.upkeep.stop()
	var errs []error
	for _, h := range fs.handles.drain() {
		if h.file != nil {
			errs = append(errs, h.file.Close())
		}
	}
	fs.upkeep.drain(ctx)
	for _, ino := range fs.nodes.drain() {
		errs = append(errs, fs.content.Unlinked(ctx, ino))
	}
	errs = append(errs, fs.atimes.flush(ctx), fs.space.close())
	fs.damage.close()
	return errors.Join(errs...)
}

// connect tells the filesystem how to reach the kernel; before the first request.
func (fs *FS) connect(n notifier) { fs.kernel.Store(&n) }

// disconnect is called after the last request: there is nobody left to notify.
func (fs *FS) disconnect() { fs.kernel.Store(nil) }

// String names the filesystem to go-fuse.
func (fs *FS) String() string { return subtype }

// invalidate tells the kernel to forget an inode's attributes, and with data its pages, which it writes back first if they are dirty. It must not be
// called with a lock held, nor where no other goroutine can answer the kernel's requests meanwhile.
func (fs *FS) invalidate(ino meta.Ino, data bool) {
	n := fs.kernel.Load()
	if n == nil {
		return
	}
	off := int64(-1) // attributes only
	if data {
		off = 0
	}
	(*n).InodeNotify(uint64(ino), off, 0) // ENOENT: the kernel does not know it any more
}

// keyed checks that the keys of the inode's zone may be used now.
func (fs *FS) keyed(ctx context.Context, a *meta.Attr) error {
	keys, err := fs.keys.Zone(ctx, a.Zone)
	if err != nil {
		return fmt.Errorf("keys of inode %d: %w", a.Ino, err)
	}
	if keys.Valid == nil {
		return nil
	}
	return keys.Valid()
}

func (fs *FS) exitOnPanic(reason any, stack []byte) {
	fs.log.Error("a request panicked, the process ends; the journal has everything that was acknowledged", "reason", fmt.Sprint(reason), "stack", string(stack))
	os.Exit(ExitPanic)
}
