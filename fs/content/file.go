package content

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

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

	loading   sync.Mutex
	loaded    bool                   // guarded by loading
	zone      atomic.Uint64          // changed by Carry
	dir       meta.Ino               // guarded by loading; where it was when it was loaded
	size      atomic.Uint64          // st.size, for Size
	blockSize atomic.Uint32          // st.params.BlockSize, for BlockSize
	epoch     atomic.Uint32          // that new blocks are sealed under; changed with mu held
	layout    atomic.Pointer[layout] // of st; nil: the file has no slots
	uses      keyUses                // of the current epoch's key

	mu      sync.RWMutex
	st      state  // guarded by mu; as committed
	changes uint64 // guarded by mu; committed by this File
	plainAt uint64 // guarded by mu; version of the inode's row that is known to have no capabilities
	trial   trial  // guarded by mu
	stream  stream // guarded by mu
	native  bool   // guarded by mu; the object was begun since the volume was opened, so all about its slots is known

	watch watch // guarded by mu; of the move that is under way

	moving   sync.Mutex   // one re-encryption at a time; before rotating
	rotating sync.Mutex   // one newEpoch at a time
	syncing  sync.Mutex   // one Datasync at a time
	syncs    atomic.Int64 // calls of Sync
	unsynced atomic.Int64 // writes since the last one
	usual    atomic.Int64 // writes before the last one that had any
	lastSync atomic.Int64 // UnixNano of the last one
}

// state is what the inode's row says about content. The File is the only one to change it.
type state struct {
	size      uint64
	allocated uint64
	layout    meta.Layout
	serial    uint64
	upper     bool
	former    meta.Former
	params    meta.Params
}

func stateOf(a *meta.Attr) state {
	return state{a.Size, a.Allocated, a.Layout, a.Serial, a.Upper, a.Former, a.Params}
}

// put makes a say what the state says.
func (st *state) put(a *meta.Attr) {
	a.Size, a.Allocated, a.Layout, a.Serial, a.Upper, a.Former, a.Params = st.size, st.allocated, st.layout, st.serial, st.upper, st.former, st.params
}

// present returns the plane that the file is in, or moves to.
func (st *state) present() meta.Plane {
	return meta.Plane{Base: baseOf(st.upper), Serial: st.serial, BlockSize: int(st.params.BlockSize), From: st.former.End, To: meta.MaxFileSize}
}

// before returns the plane that the file moves from. It is for no bytes if the file does not move.
func (st *state) before() meta.Plane {
	return meta.Plane{Base: baseOf(!st.upper), Serial: st.former.Serial, BlockSize: int(st.former.BlockSize), To: st.former.End}
}

func baseOf(upper bool) uint64 {
	if upper {
		return meta.UpperBlock
	}
	return 0
}

func (st *state) moving() bool { return st.former.End > 0 }

// planes returns the planes of the file in the order of its bytes.
func (st *state) planes() []meta.Plane {
	if st.moving() {
		return []meta.Plane{st.before(), st.present()}
	}
	return []meta.Plane{st.present()}
}

// planeAt returns the plane that the byte at off is in.
func (st *state) planeAt(off uint64) meta.Plane {
	if off < st.former.End {
		return st.before()
	}
	return st.present()
}

// planeOf returns the plane that a block is numbered in.
func (st *state) planeOf(block uint64) meta.Plane {
	if p := st.present(); p.Has(block) || !st.moving() {
		return p
	}
	return st.before()
}

// planeWith returns the plane of an object, if the file has it.
func (st *state) planeWith(serial uint64) (p meta.Plane, ok bool) {
	switch {
	case st.layout != meta.LayoutSlots:
		return p, false
	case st.serial == serial:
		return st.present(), true
	case st.moving() && st.former.Serial == serial:
		return st.before(), true
	}
	return p, false
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
	f.zone.Store(uint64(a.Zone))
	f.dir = a.Parent
	f.epoch.Store(a.Epoch)
	f.mu.Lock()
	f.uses.start(a.Epoch, a.Wrap(a.Epoch).Uses)
	f.setState(stateOf(a))
	f.mu.Unlock()
	f.loaded = true
	return nil
}

// setState installs a committed state. Called with mu held.
func (f *File) setState(st state) {
	f.st = st
	f.publishLayout(&st)
	f.size.Store(st.size)
	f.blockSize.Store(st.params.BlockSize)
}

// Ino returns the inode.
func (f *File) Ino() meta.Ino { return f.ino }

// BlockSize returns the size of a full block in bytes; while the file moves to other blocks, of those that it moves to.
func (f *File) BlockSize() int { return int(f.blockSize.Load()) }

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

// paramsNow returns how new content is stored.
func (f *File) paramsNow() meta.Params {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.st.params
}
