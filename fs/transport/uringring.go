package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/io_uring.h.
const (
	setupSQE128       = 1 << 10
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
	featSingleMmap    = 1 << 0
	offSQEs           = 0x10000000
	enterGetEvents    = 1
	opUringCmd        = 46
	sqeSize           = 128 // with setupSQE128
	cqeSize           = 16
	ringEntries       = 1
)

// struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	resv                                                                   [3]uint32
	sqOff                                                                  struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, resv1 uint32
		userAddr                                                        uint64
	}
	cqOff struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, resv1 uint32
		userAddr                                                        uint64
	}
}

// ring is an io_uring with room for one submission. It is used by the thread that made it, and no other: the kernel refuses it to others.
type ring struct {
	fd             int
	queues, sqes   []byte // memory shared with the kernel
	sqHead, sqTail *uint32
	sqMask         uint32
	sqArray        []uint32
	cqHead, cqTail *uint32
	cqMask         uint32
	cqes           []byte
}

// newRing makes a ring for the calling thread, which must be locked to its goroutine.
func newRing() (*ring, error) {
	p := ringParams{flags: setupSQE128 | setupSingleIssuer | setupDeferTaskrun}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd)} // close on exec, by the kernel
	if p.features&featSingleMmap == 0 {
		r.close()
		return nil, errors.New("io_uring_setup: a kernel before 5.4")
	}
	if err := r.mapQueues(&p); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) mapQueues(p *ringParams) (err error) {
	size := max(int(p.sqOff.array+p.sqEntries*4), int(p.cqOff.cqes+p.cqEntries*cqeSize))
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if r.queues, err = unix.Mmap(r.fd, 0, size, prot, flags); err != nil {
		return fmt.Errorf("map the queues of io_uring: %w", err)
	}
	if r.sqes, err = unix.Mmap(r.fd, offSQEs, int(p.sqEntries)*sqeSize, prot, flags); err != nil {
		return fmt.Errorf("map the submissions of io_uring: %w", err)
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queues[off])) }
	r.sqHead, r.sqTail, r.sqMask = word(p.sqOff.head), word(p.sqOff.tail), *word(p.sqOff.ringMask)
	r.sqArray = unsafe.Slice(word(p.sqOff.array), p.sqEntries)
	r.cqHead, r.cqTail, r.cqMask = word(p.cqOff.head), word(p.cqOff.tail), *word(p.cqOff.ringMask)
	r.cqes = r.queues[p.cqOff.cqes:][:p.cqEntries*cqeSize]
	return nil
}

// command fills in the next submission: an io_uring command for fd, with op of enum fuse_uring_cmd and a struct fuse_uring_cmd_req. vec is for
// registering, else nil; its memory must stay where it is, and in use.
func (r *ring) command(fd int, op uint32, vec []unix.Iovec, commit uint64, queue uint16) {
	tail := *r.sqTail
	i := tail & r.sqMask
	s := r.sqes[i*sqeSize:][:sqeSize]
	clear(s)
	s[0] = opUringCmd
	binary.NativeEndian.PutUint32(s[4:], uint32(fd))
	binary.NativeEndian.PutUint32(s[8:], op)
	if len(vec) > 0 {
		binary.NativeEndian.PutUint64(s[16:], uint64(uintptr(unsafe.Pointer(&vec[0]))))
		binary.NativeEndian.PutUint32(s[24:], uint32(len(vec)))
	}
	binary.NativeEndian.PutUint64(s[56:], commit)
	binary.NativeEndian.PutUint16(s[64:], queue)
	r.sqArray[i] = i
	atomic.StoreUint32(r.sqTail, tail+1)
}

// enter submits what command has filled in, and waits for one completion unless wait is false. It gives the completion's result; there is none if done is false.
func (r *ring) enter(wait bool) (result int32, done bool, err error) {
	want := uintptr(0)
	if wait {
		want = 1
	}
	for {
		if result, done = r.reap(); done {
			return result, true, nil
		}
		pending := *r.sqTail - atomic.LoadUint32(r.sqHead)
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(pending), want, enterGetEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR && errno != unix.EAGAIN {
			return 0, false, fmt.Errorf("io_uring_enter: %w", errno)
		}
		if errno == 0 && !wait {
			result, done = r.reap()
			return result, done, nil
		}
	}
}

// reap takes one completion if there is one.
func (r *ring) reap() (int32, bool) {
	head := *r.cqHead
	if head == atomic.LoadUint32(r.cqTail) {
		return 0, false
	}
	result := int32(binary.NativeEndian.Uint32(r.cqes[(head&r.cqMask)*cqeSize+8:]))
	atomic.StoreUint32(r.cqHead, head+1)
	return result, true
}

func (r *ring) close() {
	if r.queues != nil {
		_ = unix.Munmap(r.queues)
	}
	if r.sqes != nil {
		_ = unix.Munmap(r.sqes)
	}
	unix.Close(r.fd)
}
