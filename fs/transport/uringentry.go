package transport

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// enum fuse_uring_cmd of linux/fuse.h.
const (
	cmdRegister       = 1
	cmdCommitAndFetch = 2
)

// struct fuse_uring_req_header of linux/fuse.h: 128 bytes with the header of the request, then of the answer; 128 with the fixed part of the request; and struct
// fuse_uring_ent_in_out.
const (
	entryOpIn    = 128
	entryCommit  = 256 + 8
	entryPayload = 256 + 16
	entryHeader  = 288
)

// longestName is what the names and small values of a request take in the payload at most, in bytes, to be copied out of it. More than that is a write or setxattr.
const longestName = 8192

// entry is the memory in which the kernel lays a request and finds its answer: the payload of both is in the same place.
type entry struct {
	memory  []byte // a page for the header, then the payload
	header  []byte
	payload []byte
	vec     []unix.Iovec // header and payload, for the kernel
	names   [longestName]byte
	small   [512]byte // an answer without a payload of its own
	head    [outHeaderSize]byte
	in      [3][]byte
	out     [2][]byte
}

// newEntry returns an entry for payloads of size bytes.
func newEntry(size int) (*entry, error) {
	page := unix.Getpagesize()
	memory, err := unix.Mmap(-1, 0, page+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for requests: %w", err)
	}
	e := &entry{memory: memory, header: memory[:entryHeader:entryHeader], payload: memory[page:]}
	e.vec = make([]unix.Iovec, 2)
	e.vec[0].Base, e.vec[1].Base = &e.header[0], &e.payload[0]
	e.vec[0].SetLen(len(e.header))
	e.vec[1].SetLen(len(e.payload))
	return e, nil
}

func (e *entry) free() { _ = unix.Munmap(e.memory) }

// forget gives the payload's pages back to the kernel.
func (e *entry) forget() { _ = unix.Madvise(e.payload, unix.MADV_DONTNEED) }

func (e *entry) opcode() uint32 { return binary.NativeEndian.Uint32(e.header[4:]) }
func (e *entry) unique() uint64 { return binary.NativeEndian.Uint64(e.header[8:]) }
func (e *entry) commit() uint64 { return binary.NativeEndian.Uint64(e.header[entryCommit:]) }

// payloadSize is the length of the request's payload; what the kernel says, bounded by what there is.
func (e *entry) payloadSize() int {
	return int(min(binary.NativeEndian.Uint32(e.header[entryPayload:]), uint32(len(e.payload))))
}

// arg is the fixed part of the request: what its length leaves between the header and the payload.
func (e *entry) arg() []byte {
	n := int(binary.NativeEndian.Uint32(e.header)) - inHeaderSize - e.payloadSize()
	return e.header[entryOpIn:][:min(max(n, 0), entryHeader-entryOpIn-32)]
}

// place says where the request lies and where its answer goes. The answer's payload goes to where the request's lies: names are copied out of its way,
// and what is too large for that has an answer that is small.
func (e *entry) place() (in, out [][]byte) {
	payload := e.payload[:e.payloadSize()]
	e.out[0], e.out[1] = e.head[:], e.payload
	switch {
	case e.opcode() == opWrite || len(payload) > longestName:
		e.out[1] = e.small[:]
	case len(payload) > 0:
		payload = e.names[:copy(e.names[:], payload)]
	}
	e.in[0], e.in[1], e.in[2] = e.header[:inHeaderSize], e.arg(), payload
	return e.in[:], e.out[:]
}

// answer finishes the answer of n bytes, header included, or one of status alone if n is 0.
func (e *entry) answer(n int, status int32) {
	unique := e.unique()
	if n < outHeaderSize {
		n = putHeader(e.head[:], outHeaderSize, -status, unique)
	}
	if &e.out[1][0] == &e.small[0] {
		copy(e.payload, e.small[:n-outHeaderSize])
	}
	copy(e.header, e.head[:])
	binary.NativeEndian.PutUint64(e.header[8:], unique)
	binary.NativeEndian.PutUint32(e.header[entryPayload:], uint32(n-outHeaderSize))
}
