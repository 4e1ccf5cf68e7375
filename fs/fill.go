package fs

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The content of a small file is put into the page cache when the file is opened for reading (FUSE_NOTIFY_STORE), before the open is answered. Who reads it then waits for one
// answer instead of three: no READ follows, and no GETATTR, since a READ makes the kernel take the access time for unknown.
//
// The kernel copies what it is given over what is there, dirty or not. So it happens only to an inode whose content nobody has used since the kernel got to know it, while
// nobody else uses it: no other handle is open (and so no page is dirty, under way to us or expected from us: the kernel writes back before it releases a handle, and releases none
// that has requests under way), and whoever comes meanwhile to open or to truncate it waits (nodeTable.enter). A truncation drops all pages when it was answered.

// fillMost is the size in bytes of the largest file that is put into the page cache as a whole.
const fillMost = 64 << 10

// fillMajor and fillMinor name the first Linux of which every release zeroes what lies behind the end of the file in the last page: a mapping shows it.
const fillMajor, fillMinor = 6, 12

var fillBuffers = sync.Pool{New: func() any { return new([fillMost]byte) }}

// fill puts the content of a small file into the page cache, if it may, for a handle that is the first to use it. Where that does not go, the program's reads come to us. It
// fails if the keys were taken away meanwhile: then nothing is left in the page cache.
func (fs *FS) fill(ctx *requestContext, h *handle, o opening, out *fuse.OpenOut) error {
	if !fs.fills || o.writes() || o.flags&(syscall.O_DIRECT|syscall.O_TRUNC) != 0 || out.OpenFlags&fuse.FOPEN_DIRECT_IO != 0 || h.passes != nil || !fs.nodes.fill(o.ino) {
		return nil
	}
	defer fs.nodes.filled(o.ino)
	n, err := fs.store(ctx, h)
	if err != nil || n == 0 {
		return nil // a READ will tell what is wrong
	}
	h.seen.Store(true)
	h.got.Add(uint64(n))
	if fs.meter != nil {
		fs.meter.Read(n)
	}
	if h.read {
		h.touched = fs.touch(ctx, h.ino)
	}
	return fs.stillKeyed(ctx, h)
}

// store puts the content of a small file into the page cache and returns how many bytes that were.
func (fs *FS) store(ctx *requestContext, h *handle) (int, error) {
	size, kernel := h.file.Size(), fs.kernel.Load()
	if size == 0 || size > fillMost || kernel == nil {
		return 0, nil
	}
	fs.ahead.read(h.dir, h.place)
	buf := fillBuffers.Get().(*[fillMost]byte)
	defer fillBuffers.Put(buf)
	n, err := h.file.ReadAt(ctx, buf[:size], 0)
	if err != nil {
		return 0, err
	}
	if status := (*kernel).InodeStore(uint64(h.ino), buf[:n]); !status.Ok() {
		return 0, syscall.Errno(status)
	}
	return n, nil
}

// stillKeyed checks the keys again after content was put into the page cache: who takes them away has all pages dropped afterwards (Drain), which may have been before.
func (fs *FS) stillKeyed(ctx *requestContext, h *handle) error {
	a, err := h.file.Attr(ctx)
	if err == nil {
		err = fs.keyed(ctx, a)
	}
	if err != nil {
		fs.invalidate(h.ino, true)
	}
	return err
}

// kernelFills says whether this kernel can be given content.
func kernelFills() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	return fillsContent(unix.ByteSliceToString(u.Release[:]))
}

// fillsContent says so of a release, as uname(2) names it.
func fillsContent(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major > fillMajor || major == fillMajor && minor >= fillMinor
}
