package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// headerRoom is what a request or an answer may need beyond its payload, in bytes: headers, a name, an extension. The kernel wants buffers of at
// least 8 KiB (FUSE_MIN_READ_BUFFER).
const headerRoom = 8192

// inHeaderSize is the length of struct fuse_in_header, in bytes.
const inHeaderSize = 40

// Opcodes of linux/fuse.h that the loop itself must know.
const (
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opRelease       = 18
	opFsync         = 20
	opFsyncDir      = 30
	opInterrupt     = 36
	opNotifyReply   = 41
	opFallocate     = 43
	opLseek         = 46
	opCopyFileRange = 47
)

// ofRegularFile tells whether a request with this opcode is always about a regular file.
func ofRegularFile(opcode uint32) bool {
	switch opcode {
	case opOpen, opRead, opWrite, opRelease, opFsync, opFallocate, opLseek, opCopyFileRange:
		return true
	}
	return false
}

// longPayload is the size of a read or write, in bytes, from which on it is worth a thread switch: that much takes longer to encrypt.
const longPayload = 64 << 10

// buffers are a reader's: some 2 MiB, too much to make for each of a burst of large requests.
type buffers struct{ in, out []byte }

// reader is one goroutine with its buffers. It leads, or handles a request, or waits for the lead.
type reader struct {
	*buffers
	loop     *Loop
	inVec    [1][]byte
	outVec   [1][]byte
	batch    batch
	answered time.Time // when the reader last finished a request
}

// borrow returns buffers that go back to l.spare.
func (l *Loop) borrow() *buffers {
	if b, ok := l.spare.Get().(*buffers); ok {
		return b
	}
	return &buffers{make([]byte, l.size+batchRoom), make([]byte, l.size)}
}

// read is the life of a reader.
func (l *Loop) read() {
	defer l.readers.Done()
	b := l.borrow()
	defer l.spare.Put(b)
	r := &reader{buffers: b, loop: l}
	for r.awaitLead() {
		r.answered = time.Now()
		for r.step() {
		}
	}
}

// awaitLead blocks until this reader leads. False: it is not needed any more.
func (r *reader) awaitLead() bool {
	l := r.loop
	if l.idle.Add(1) > MaxIdle {
		l.idle.Add(-1)
		select {
		case <-l.lead: // handed over to just this reader, while it was counted
			return true
		default:
			return false
		}
	}
	defer l.idle.Add(-1)
	select {
	case <-l.lead:
		return true
	case <-l.ended:
		return false
	}
}

// step takes one request and handles it. False: the reader leads no longer.
func (r *reader) step() bool {
	n, ok := r.receive()
	if !ok {
		return false
	}
	l := r.loop
	taken := l.stats.requests.Add(1)
	if l.batches != nil {
		if w, ok := writeBack(r.in[:n]); ok {
			return r.together(w, n)
		}
	}
	sync := n >= inHeaderSize && isSync(binary.NativeEndian.Uint32(r.in[4:]))
	if sync && !l.syncs.keep() || !sync && takesLong(r.in[:n]) {
		l.stats.handovers.Add(1)
		l.handOver()
		r.handle(n)
		return false
	}
	token := l.lease.begin()
	answer := r.answerTo(n)
	if sync { // before the answer: who comes after it was not kept waiting
		l.syncs.kept(l.stats.requests.Load() > taken || l.waiting())
	}
	r.reply(answer)
	return l.lease.finish(token)
}

// receive waits for a request: it polls for as long as that pays, then sleeps. False: the connection is over.
func (r *reader) receive() (int, bool) {
	l := r.loop
	window, slept := l.poll.window, false
	gives := window > 0 && l.giveWay.next()
	for {
		n, err := readDevice(l.fd, r.in)
		switch {
		case err == 0:
			l.poll.arrived(time.Since(r.answered))
			if window > 0 && !slept {
				l.stats.polled.Add(1)
			}
			return n, true
		case err == unix.EAGAIN:
			waited := time.Since(r.answered)
			if waited < window {
				if gives {
					yield()
					gives = l.giveWay.took(time.Since(r.answered) - waited)
				}
				continue
			}
			window, slept = 0, true
			l.stats.slept.Add(1)
			l.sleep()
		case err == unix.EINTR || err == unix.ENOENT: // ENOENT: the request was interrupted before we had it
		case err == unix.ENODEV:
			l.end(nil)
			return 0, false
		default:
			l.end(fmt.Errorf("read /dev/fuse: %w", err))
			return 0, false
		}
	}
}

// sleep blocks until the device has something to say.
func (l *Loop) sleep() {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, -1) // whatever it was, the next read tells
}

// readDevice reads without telling the scheduler: the descriptor does not block.
func readDevice(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// takesLong tells whether a request is better handled by a reader that does not lead.
func takesLong(request []byte) bool {
	if len(request) < inHeaderSize {
		return false
	}
	return isLong(binary.NativeEndian.Uint32(request[4:]), request[inHeaderSize:], len(request))
}

// isLong tells whether a request takes so long that it is worth a thread switch, by its opcode, the fixed part behind its header, and how much data came with it.
func isLong(opcode uint32, arg []byte, payload int) bool {
	switch opcode {
	case opFsync, opFsyncDir, opFallocate, opLseek, opCopyFileRange:
		return true
	case opWrite:
		return payload >= longPayload
	case opRead: // struct fuse_read_in: fh, offset, size
		return len(arg) >= 20 && binary.NativeEndian.Uint32(arg[16:]) >= longPayload
	}
	return false
}

// handle has the request in r.in[:n] answered.
func (r *reader) handle(n int) { r.reply(r.answerTo(n)) }

// answerTo has the request in r.in[:n] handled and returns the length of the answer in r.out; 0: there is none.
func (r *reader) answerTo(n int) int {
	r.inVec[0], r.outVec[0] = r.in[:n], r.out
	answer, status := r.loop.request(r.inVec[:], r.outVec[:])
	if answer == 0 && !status.Ok() {
		answer = r.refuse(n, int32(status))
	}
	return answer
}

// reply sends the answer in r.out[:n].
func (r *reader) reply(n int) {
	if n > 0 {
		r.loop.send(r.out[:n])
	}
	r.answered = time.Now()
}

// request has one request handled, and keeps it among those under way meanwhile. The answer is in out; its length is 0 if there is none, or only a status.
func (l *Loop) request(in, out [][]byte) (int, fuse.Status) {
	if len(in[0]) >= inHeaderSize {
		defer l.active.remove(l.active.add(in[0]))
	}
	return l.proto.HandleRequest(in, out)
}

// refuse makes the answer to a request that could not be parsed, so that its caller does not wait for ever.
func (r *reader) refuse(n int, status int32) int {
	if n < inHeaderSize {
		return 0
	}
	return putHeader(r.out, outHeaderSize, -status, binary.NativeEndian.Uint64(r.in[8:]))
}

// send writes an answer. ENOENT: nobody waits for it any more.
func (l *Loop) send(answer []byte) {
	_, err := unix.Write(l.fd, answer)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ECONNABORTED):
	default:
		l.log.Error("answer refused by the kernel", "error", err, "length", len(answer), "status", int32(binary.NativeEndian.Uint32(answer[4:])))
	}
}
