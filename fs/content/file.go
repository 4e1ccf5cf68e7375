package content

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// File is the content of one inode. All methods are safe for concurrent use; reads run in parallel.
//
// Every method that needs the file's keys fails with meta.ErrKeyUnavailable or meta.ErrKeyRevoked when these may not be had or used any more.
// Whatever does not open as it should is ErrDamaged and meta.ErrAuth; then no bytes of other content are ever returned.
type File struct {
	e      *Engine
	ino    meta.Ino
	res    *residue
	users  int  // guarded by e.mu
	orphan bool // guarded by e.mu; to be freed at the last Close

	loading sync.Mutex
	loaded  bool // guarded by loading
	// Set by load, constant afterwards.
	zone      meta.ZoneID
	params    meta.Params
	blockSize int // params.BlockSize

	size  atomic.Uint64 // st.size, for Size
	epoch atomic.Uint32 // that new blocks are sealed under; changed with mu held

	mu      sync.RWMutex
	st      state   // guarded by mu; as committed
	uses    keyUses // guarded by mu; of the current epoch's key
	changes uint64  // guarded by mu; committed by this File
	plainAt uint64  // guarded by mu; version of the inode's row that is known to have no capabilities
	trial   trial   // guarded by mu
	native  bool    // guarded by mu; the object was begun since the volume was opened, so all about its slots is known

	rotating sync.Mutex   // one newEpoch at a time
	syncing  sync.Mutex   // one Datasync at a time
	syncs    atomic.Int64 // calls of Sync
	lastSync atomic.Int64 // UnixNano of the last one
}

// state is what the inode's row says about content. The File is the only one to change it.
type state struct {
	size      uint64
	allocated uint64
	layout    meta.Layout
	serial    uint64
}

// WriteOpts says what a change does besides.
type WriteOpts struct {
	// KillSUID clears the set-user-id bit, and the set-group-id bit of a group-executable file.
	KillSUID bool
	// KeepTimes leaves mtime and ctime alone: of files that it caches the kernel keeps the times, and sends them where they differ from what it has
	// been told. A time of ours would then be one that nobody has seen.
	KeepTimes bool
}

// load reads the inode's row unless it has been read. On error the user is taken off.
func (f *File) load(ctx context.Context) error {
	f.loading.Lock()
	defer f.loading.Unlock()
	if f.loaded {
		return nil
	}
	a, err := f.e.meta.Getattr(ctx, f.ino)
	if err == nil && !a.IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		f.e.release(f)
		return fmt.Errorf("open content of inode %d: %w", f.ino, err)
	}
	f.zone, f.params, f.blockSize = a.Zone, a.Params, int(a.BlockSize)
	f.epoch.Store(a.Epoch)
	f.mu.Lock()
	f.uses.used = a.Wrap(a.Epoch).Uses
	f.uses.reserved = f.uses.used
	f.setState(state{size: a.Size, allocated: a.Allocated, layout: a.Layout, serial: a.Serial})
	f.mu.Unlock()
	f.loaded = true
	return nil
}

// setState installs a committed state. Called with mu held.
func (f *File) setState(st state) {
	f.st = st
	f.size.Store(st.size)
}

// Ino returns the inode.
func (f *File) Ino() meta.Ino { return f.ino }

// BlockSize returns the size of a full block in bytes.
func (f *File) BlockSize() int { return f.blockSize }

// Size returns the current size in bytes without reading anything.
func (f *File) Size() uint64 { return f.size.Load() }

// Attr returns a copy of the inode's current row, size included.
func (f *File) Attr(ctx context.Context) (*meta.Attr, error) { return f.e.meta.Getattr(ctx, f.ino) }

// Close ends one Open. The last one of an inode without a name frees it; the error is then that of freeing.
func (f *File) Close() error {
	if f.e.release(f) {
		return f.e.free(context.Background(), f.ino)
	}
	return nil
}

// blocks returns the number of blocks of a file of size bytes.
func (f *File) blocks(size uint64) uint64 { return blockcrypt.BlockCount(size, f.blockSize) }

// start returns the offset of a block.
func (f *File) start(block uint64) uint64 { return blockcrypt.BlockStart(block, f.blockSize) }

// oftenSynced: files that are fsynced again and again write images, because these need only one flush.
const (
	oftenSyncs  = 1
	oftenWithin = 30 * time.Second
)

func (f *File) oftenSynced() bool {
	return f.syncs.Load() >= oftenSyncs && time.Now().UnixNano()-f.lastSync.Load() < int64(oftenWithin)
}

// virgin tells whether no state that a crash could bring back refers to the slot of a block without an entry. Called with mu held.
func (f *File) virgin(block uint64) bool {
	return (f.native || f.e.tidy.Load()) && !f.res.isReleased(block)
}

// mayHaveImage tells whether a block's ciphertext may be in the journal. Called with mu held.
func (f *File) mayHaveImage(block uint64) bool {
	return f.untidy() || f.res.hasImage(block)
}

// untidy: images of before the volume was opened may exist that the residue does not know. Called with mu held.
func (f *File) untidy() bool { return !f.native && !f.e.tidy.Load() }
