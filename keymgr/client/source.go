package client

import (
	"io"
	"sync"
)

// source is the body of a request. net/http may read it after the call has returned; wiped, it reads as closed.
type source struct {
	mu   sync.Mutex
	body []byte // guarded by mu; nil once wiped
}

func (s *source) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.body)
	s.body = nil
}

func (s *source) reader() io.ReadCloser { return &sourceReader{source: s} }

// sourceReader reads a source once from its start.
type sourceReader struct {
	source *source
	off    int
}

func (r *sourceReader) Read(p []byte) (int, error) {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	if r.source.body == nil {
		return 0, io.ErrClosedPipe
	}
	if r.off == len(r.source.body) {
		return 0, io.EOF
	}
	n := copy(p, r.source.body[r.off:])
	r.off += n
	return n, nil
}

func (r *sourceReader) Close() error { return nil }
