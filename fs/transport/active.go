package transport

import (
	"encoding/binary"
	"sync"
)

// requests is the set of requests under way, by their unique number.
type requests struct {
	mu  sync.Mutex
	set map[uint64]struct{} // guarded by mu
}

func (r *requests) add(unique uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		r.set = make(map[uint64]struct{})
	}
	r.set[unique] = struct{}{}
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
