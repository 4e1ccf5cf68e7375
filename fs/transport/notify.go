package transport

import (
	"encoding/binary"
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// outHeaderSize is the length of struct fuse_out_header, in bytes.
const outHeaderSize = 16

// Notification codes of linux/fuse.h (enum fuse_notify_code).
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyStore      = 4
	notifyRetrieve   = 5
	notifyDelete     = 6
)

// putHeader writes a struct fuse_out_header for length bytes in all to b, and returns length.
func putHeader(b []byte, length int, status int32, unique uint64) int {
	binary.NativeEndian.PutUint32(b[0:], uint32(length))
	binary.NativeEndian.PutUint32(b[4:], uint32(status))
	binary.NativeEndian.PutUint64(b[8:], unique)
	return length
}

// InodeNotify drops the kernel's cached attributes of an inode and its cached content from off on for length bytes (0: to the end; off negative:
// attributes only). Dirty pages are written first, by requests that other readers take: never call it while all of them wait for the caller.
// fuse.ENOENT: the kernel does not know the inode.
func (l *Loop) InodeNotify(node uint64, off, length int64) fuse.Status {
	b := make([]byte, outHeaderSize+24)
	binary.NativeEndian.PutUint64(b[16:], node)
	binary.NativeEndian.PutUint64(b[24:], uint64(off))
	binary.NativeEndian.PutUint64(b[32:], uint64(length))
	return l.notify(notifyInvalInode, b)
}

// InodeStore puts data, at most 4 GiB, at the beginning of a regular file in the page cache, over what is there, dirty or not, and makes the file at least as long. It takes the locks of its
// pages: never call it while one of them waits for the caller. fuse.ENOENT: the kernel does not know the inode.
func (l *Loop) InodeStore(node uint64, data []byte) fuse.Status {
	var head [outHeaderSize + 24]byte
	putHeader(head[:], len(head)+len(data), notifyStore, 0)
	binary.NativeEndian.PutUint64(head[16:], node) // then the offset, 0
	binary.NativeEndian.PutUint32(head[32:], uint32(len(data)))
	_, err := unix.Writev(l.fd, [][]byte{head[:], data})
	return fuse.ToStatus(err)
}

// EntryNotify drops a directory entry from the kernel's cache. It takes the directory's lock: never call it from a request on that directory.
func (l *Loop) EntryNotify(parent uint64, name string) fuse.Status {
	if len(name) > math.MaxUint16 {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	b := make([]byte, outHeaderSize+16+len(name)+1)
	binary.NativeEndian.PutUint64(b[16:], parent)
	binary.NativeEndian.PutUint32(b[24:], uint32(len(name)))
	copy(b[32:], name)
	return l.notify(notifyInvalEntry, b)
}

// DeleteNotify tells the kernel that an entry was deleted, so that watchers of the directory learn of it; else like EntryNotify.
func (l *Loop) DeleteNotify(parent, child uint64, name string) fuse.Status {
	if len(name) > math.MaxUint16 {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	b := make([]byte, outHeaderSize+24+len(name)+1)
	binary.NativeEndian.PutUint64(b[16:], parent)
	binary.NativeEndian.PutUint64(b[24:], child)
	binary.NativeEndian.PutUint32(b[32:], uint32(len(name)))
	copy(b[40:], name)
	return l.notify(notifyDelete, b)
}

// pollHackNode is the inode of the file that go-fuse answers for itself; the filesystem has the kernel look it up when it is mounted.
const pollHackNode = math.MaxUint64

// retrieveNothing asks the kernel for none of its cached pages of some regular file. It answers with a request (NOTIFY_REPLY), made on the calling thread's processor,
// that nobody waits for, and whose number is made of n: unlike every number of the kernel's own. It has to know the file: false if none was found that it does.
func (l *Loop) retrieveNothing(n uint64) bool {
	b := make([]byte, outHeaderSize+32)
	binary.NativeEndian.PutUint64(b[16:], 1<<63|n<<1)
	for _, node := range append(l.active.files(), pollHackNode) {
		binary.NativeEndian.PutUint64(b[24:], node)
		if l.notify(notifyRetrieve, b).Ok() {
			return true
		}
	}
	return false
}

// notify sends a notification: an answer to nobody, with its code in place of the status.
func (l *Loop) notify(code int32, b []byte) fuse.Status {
	putHeader(b, len(b), code, 0)
	_, err := unix.Write(l.fd, b)
	return fuse.ToStatus(err)
}
