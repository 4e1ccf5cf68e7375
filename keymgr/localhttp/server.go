package localhttp

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds are what a client may take. All are positive.
type Bounds struct {
	Header time.Duration // from the first byte of a request to the end of its header
	Read   time.Duration // … to the end of its body
	Write  time.Duration // of an answer that the client does not read; up to twice as long
	Idle   time.Duration // between requests; up to twice as long
	Size   int           // of a header, in bytes
}

// Server answers requests with a handler, which sets Content-Length.
type Server struct {
	Handler http.Handler
	Bounds  Bounds
	// ConnContext gives each connection its context, from which those of its requests come.
	ConnContext func(context.Context, net.Conn) context.Context

	date atomic.Pointer[dateText]

	watched   atomic.Bool   // the patrol looks, or is about to
	requested chan struct{} // wakes it; made by Serve
	hangups   *hangups      // patrol's; nil: clients that go away are looked for

	mu struct {
		sync.Mutex
		listener net.Listener
		conns    map[*conn]bool
	}
	ending  atomic.Bool    // set with mu held
	running sync.WaitGroup // connections
}

// Serve answers what comes from a listener until Shutdown or Close, then returns http.ErrServerClosed; else the listener's error.
func (s *Server) Serve(l net.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.requested = make(chan struct{}, 1)
	s.mu.Lock()
	s.mu.listener = l
	if s.mu.conns == nil {
		s.mu.conns = map[*conn]bool{}
	}
	closing := s.closing()
	s.mu.Unlock()
	if closing {
		_ = l.Close()
		return http.ErrServerClosed
	}
	go s.patrol(ctx)
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.closing() {
				return http.ErrServerClosed
			}
			return err
		}
		c := s.newConn(ctx, nc)
		if !s.add(c) {
			c.close()
			return http.ErrServerClosed
		}
		go func() {
			defer s.running.Done()
			defer s.remove(c)
			defer c.close()
			c.serve()
		}()
	}
}

// closing says whether Shutdown or Close has begun. Each request asks, so it takes no lock.
func (s *Server) closing() bool { return s.ending.Load() }

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing() {
		return false
	}
	s.running.Add(1)
	s.mu.conns[c] = true
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
}

// Shutdown closes the listener and the connections that are idle, and returns when all others have answered, or with ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop(func(c *conn) {
		if c.state.CompareAndSwap(idle, closed) {
			_ = c.net.Close()
		}
	})
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the listener and all connections.
func (s *Server) Close() error {
	s.stop(func(c *conn) { c.end(); _ = c.net.Close() })
	return nil
}

func (s *Server) stop(each func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending.Store(true)
	if s.mu.listener != nil {
		_ = s.mu.listener.Close()
	}
	for c := range s.mu.conns {
		each(c)
	}
}

// dateText is the time as HTTP writes it.
type dateText struct {
	second int64
	text   string
}

func (s *Server) now() string {
	now := time.Now()
	if d := s.date.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dateText{now.Unix(), now.UTC().Format(http.TimeFormat)}
	s.date.Store(d)
	return d.text
}
