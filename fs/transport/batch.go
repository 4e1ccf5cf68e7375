package transport

import (
	"encoding/binary"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// WriteBacker is a filesystem that takes several writes from the page cache at once. The kernel has no request for that: pages that do not lie side by side come one by one,
// many at a time.
type WriteBacker interface {
	// WriteBack does writes that come with one handle, each as fuse.RawFileSystem.Write would, in any order, and fills in its result. In and Data are the transport's. cancel is closed when the
	// connection has ended.
	WriteBack(cancel <-chan struct{}, batch []WriteBack)
}

// WriteBack is a write from the page cache.
type WriteBack struct {
	In      *fuse.WriteIn
	Data    []byte
	Written uint32      // bytes
	Status  fuse.Status // fuse.OK, or why nothing was written
}

const (
	maxBatch   = 16       // writes that are taken at once, so that with the kernel's 64 another reader has some, too
	batchRoom  = 64 << 10 // bytes that they take, headers included
	writeInEnd = int(unsafe.Sizeof(fuse.WriteIn{}))
	batchAlign = 8
)

// batch is the work space of one reader's batches.
type batch struct {
	writes [maxBatch]WriteBack
	n      int
}

// writeBack returns the write in a request, if it is a small one from the page cache.
func writeBack(request []byte) (w WriteBack, ok bool) {
	if len(request) <= writeInEnd || len(request) > batchRoom/4 || binary.NativeEndian.Uint32(request[4:]) != opWrite {
		return w, false
	}
	in := (*fuse.WriteIn)(unsafe.Pointer(&request[0]))
	if in.WriteFlags&fuse.WRITE_CACHE == 0 || int(in.Length) != len(request) || int(in.Size) != len(request)-writeInEnd {
		return w, false
	}
	return WriteBack{In: in, Data: request[writeInEnd:], Status: fuse.EIO}, true
}

// gather takes from the device what belongs into one batch with the write in r.in[:n]. It returns where in r.in a request lies that it came upon and that does not belong there
// (tail, empty if none), and whether the device may have more. The leader only.
func (r *reader) gather(first WriteBack, n int) (tail [2]int, more bool) {
	b := &r.batch
	b.writes[0], b.n = first, 1
	at := (n + batchAlign - 1) &^ (batchAlign - 1)
	for b.n < maxBatch && at < batchRoom {
		n, err := readDevice(r.loop.fd, r.in[at:])
		switch {
		case err == unix.EINTR || err == unix.ENOENT:
			continue
		case err != 0: // nothing is there; or the end, which the next one who reads finds as well
			return tail, false
		}
		r.loop.stats.requests.Add(1)
		w, ok := writeBack(r.in[at : at+n])
		if !ok || w.In.Fh != first.In.Fh { // nobody waits for another file's key or room
			return [2]int{at, at + n}, true
		}
		b.writes[b.n] = w
		b.n++
		at += (n + batchAlign - 1) &^ (batchAlign - 1)
	}
	return tail, true
}

// together handles a small write from the page cache, r.in[:n], and those that wait behind it. False: the reader leads no longer.
func (r *reader) together(first WriteBack, n int) bool {
	l := r.loop
	tail, more := r.gather(first, n)
	if more { // others are wanted: for what comes, and as many processors as there are
		l.stats.handovers.Add(1)
		l.handOver()
		if tail[1] > 0 {
			l.beside(r.in[tail[0]:tail[1]])
		}
		r.writeBack()
		return false
	}
	token := l.lease.begin()
	r.writeBack()
	return l.lease.finish(token)
}

// beside has a request handled by a goroutine of its own: it must not wait for others.
func (l *Loop) beside(request []byte) {
	b := l.borrow()
	n := copy(b.in, request)
	l.readers.Add(1)
	go func() {
		defer l.readers.Done()
		defer l.spare.Put(b)
		r := &reader{buffers: b, loop: l}
		r.handle(n)
	}()
}

// writeBack has the batch written and answers each write.
func (r *reader) writeBack() {
	writes := r.batch.writes[:r.batch.n]
	r.loop.writeBack(writes)
	for i := range writes {
		w := &writes[i]
		n := outHeaderSize
		if w.Status.Ok() {
			n += 8 // struct fuse_write_out
			binary.NativeEndian.PutUint32(r.out[outHeaderSize:], w.Written)
			binary.NativeEndian.PutUint32(r.out[outHeaderSize+4:], 0)
		}
		r.reply(putHeader(r.out, n, -int32(w.Status), w.In.Unique))
		*w = WriteBack{}
	}
}

// writeBack calls the filesystem. A panic there is as in any request.
func (l *Loop) writeBack(writes []WriteBack) {
	defer func() {
		if l.panicked == nil {
			return
		}
		if reason := recover(); reason != nil {
			l.panicked(reason)
		}
	}()
	l.batches.WriteBack(l.ended, writes)
}
