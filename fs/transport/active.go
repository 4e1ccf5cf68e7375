package transport

import (
	"encoding/binary"
	"sync"
)

// requests is the set of requests under way, by their unique number.
type requests struct {
	mu  sync.Mutex
	set map[uint64]uint64 // guarded by mu; to the inode of a regular file, or 0
}

// add adds the request with this header.
func (r *requests) add(header []byte) (unique uint64) {
	unique = binary.NativeEndian.Uint64(header[8:])
	node := uint64(0)
	if ofRegularFile(binary.NativeEndian.Uint32(header[4:])) {
		node = binary.NativeEndian.Uint64(header[16:])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		r.set = make(map[uint64]uint64)
	}
	r.set[unique] = node
	return unique
}

// files returns inodes of regular files that the kernel knows for sure, because requests for them are under way.
func (r *requests) files() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var nodes []uint64
	for _, node := range r.set {
		if node != 0 {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func (r *requests) remove(unique uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.set, unique)
}

func (r *requests) all() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []uint64
	for unique := range r.set {
		all = append(all, unique)
	}
	return all
}

// interruptAll interrupts what is under way, as the kernel does for a caller that was killed. When the connection is gone, nobody else will.
func (l *Loop) interruptAll() {
	out := make([]byte, headerRoom)
	for _, unique := range l.active.all() {
		request := make([]byte, inHeaderSize+8)
		binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
		binary.NativeEndian.PutUint32(request[4:], opInterrupt)
		binary.NativeEndian.PutUint64(request[inHeaderSize:], unique)
		l.proto.HandleRequest([][]byte{request}, [][]byte{out}) // an interrupt has no answer
	}
}
