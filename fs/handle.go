package fs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
)

// handle is one open file or directory.
type handle struct {
	ino     meta.Ino
	dir     meta.Ino      // where the file's name was when it was opened; 0: not known
	file    *content.File // nil for a directory
	place   uint64        // the cookie of that name
	write   bool          // opened for writing
	read    bool          // opened for reading, in a way that counts as access
	seen    atomic.Bool   // a read reached us, and was counted, or the content was put into the page cache
	touched bool          // the access time changed, and the kernel has to be told

	by       access.Requester // who opened it, where that is decided or recorded
	zone     meta.ZoneID      // with by
	got, put atomic.Uint64    // bytes that were read and written here; the page cache answers without us

	passes []*access.Pass // to be checked with each use: nil but in zones with strict revocation
}

// newHandle returns the handle of a file opened with the flags of open(2).
func newHandle(ino meta.Ino, file *content.File, flags uint32) *handle {
	mode := flags & syscall.O_ACCMODE
	return &handle{
		ino: ino, file: file,
		write: mode != syscall.O_RDONLY,
		read:  mode != syscall.O_WRONLY && flags&syscall.O_NOATIME == 0,
	}
}

// handleTable holds what is open, by the number that the kernel knows it by. Numbers are not reused, so a late request can't meet somebody
// else's handle. Bounded by memory only. Safe for concurrent use.
type handleTable struct {
	mu   sync.RWMutex
	next uint64             // guarded by mu
	open map[uint64]*handle // guarded by mu
}

func newHandleTable() *handleTable {
	return &handleTable{next: 1, open: make(map[uint64]*handle)}
}

// add returns the number of a new handle.
func (t *handleTable) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	fh := t.next
	t.next++
	t.open[fh] = h
	return fh
}

// file returns the handle of an open file: ErrHandle if there is none.
func (t *handleTable) file(fh uint64) (*handle, error) {
	t.mu.RLock()
	h := t.open[fh]
	t.mu.RUnlock()
	if h == nil || h.file == nil {
		return nil, fmt.Errorf("file handle %d: %w", fh, ErrHandle)
	}
	return h, nil
}

// check is nil while the user of a handle still may what it was opened for.
func (t *handleTable) check(ctx context.Context, fh uint64) error {
	t.mu.RLock()
	h := t.open[fh]
	t.mu.RUnlock()
	if h == nil {
		return nil // for the caller to find
	}
	return h.check(ctx)
}

// remove takes a handle out, nil if there is none.
func (t *handleTable) remove(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fh]
	delete(t.open, fh)
	return h
}

// drain takes all handles out.
func (t *handleTable) drain() []*handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*handle, 0, len(t.open))
	for _, h := range t.open {
		all = append(all, h)
	}
	clear(t.open)
	return all
}
