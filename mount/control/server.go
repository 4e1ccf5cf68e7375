package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const requestTimeout = 10 * time.Second

// Call is one request as a handler sees it.
type Call struct {
	Peer Peer
	args json.RawMessage
	conn net.Conn
}

// Args decodes the request's arguments into v; ErrProtocol if they don't fit.
func (c *Call) Args(v any) error {
	if err := json.Unmarshal(c.args, v); err != nil {
		return fmt.Errorf("%w: arguments: %v", ErrProtocol, err)
	}
	return nil
}

// Emit sends an event ahead of the result; an error means that the client has gone.
func (c *Call) Emit(event any) error {
	raw, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode control event: %w", err)
	}
	return writeLine(c.conn, message{Event: raw})
}

// Handler answers one operation. Its context ends with the server, and when the client hangs up.
type Handler func(ctx context.Context, call *Call) (result any, err error)

// Config is what a server needs. Failure puts an error into the form that crosses the wire. A nil Log is silent.
type Config struct {
	Path     string
	Handlers map[string]Handler
	Failure  func(error) *Failure
	Log      *slog.Logger
}

// Server listens on one socket.
type Server struct {
	cfg      Config
	listener *net.UnixListener
	ctx      context.Context
	stop     context.CancelFunc
	calls    sync.WaitGroup
	hidden   atomic.Bool
}

// Listen makes the socket (mode 0600; a left-over of a dead daemon is replaced) and starts to serve. The caller makes sure, by the volume's lock,
// that no other daemon lives at this path.
func Listen(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	short, done, err := shortPath(cfg.Path)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(short); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	old := unix.Umask(0o077)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket %s: %w", cfg.Path, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(short, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("mode of control socket %s: %w", cfg.Path, err)
	}
	s := &Server{cfg: cfg, listener: listener}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.calls.Add(1)
	go s.accept()
	return s, nil
}

// Hide removes the socket: nobody new finds the server, calls under way go on. After it another server may take the place.
func (s *Server) Hide() error {
	if s.hidden.Swap(true) {
		return nil
	}
	if err := os.Remove(s.cfg.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove control socket: %w", err)
	}
	return nil
}

// Close hides the server, ends the contexts of running calls and waits for their answers.
func (s *Server) Close() error {
	err := s.Hide()
	s.stop()
	err = errors.Join(err, s.listener.Close())
	s.calls.Wait()
	return err
}

func (s *Server) accept() {
	defer s.calls.Done()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if s.ctx.Err() == nil {
				s.cfg.Log.Error("control socket", "error", err)
			}
			return
		}
		s.calls.Add(1)
		go func() {
			defer s.calls.Done()
			defer conn.Close()
			s.serve(conn)
		}()
	}
}

func (s *Server) serve(conn *net.UnixConn) {
	peer, err := peerOf(conn)
	if err == nil && !peer.serves() {
		err = ErrPeer
	}
	if err != nil {
		s.cfg.Log.Warn("control connection refused", "uid", peer.UID, "pid", peer.PID, "error", err)
		return
	}
	req, err := readRequest(conn)
	if err != nil {
		s.answer(conn, nil, err)
		return
	}
	handler := s.cfg.Handlers[req.Op]
	if handler == nil {
		s.answer(conn, nil, fmt.Errorf("%w: unknown operation %.40q", ErrProtocol, req.Op))
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	go func() { // the client sends nothing more: the end of its stream is its end
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	result, err := handler(ctx, &Call{Peer: peer, args: req.Args, conn: conn})
	s.answer(conn, result, err)
}

func readRequest(conn net.Conn) (request, error) {
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	defer conn.SetReadDeadline(time.Time{})
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	if err != nil {
		return request{}, fmt.Errorf("%w: read request: %v", ErrProtocol, err)
	}
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return request{}, fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	if req.Args == nil {
		req.Args = json.RawMessage("{}")
	}
	return req, nil
}

func (s *Server) answer(conn net.Conn, result any, err error) {
	m := message{}
	if err == nil {
		m.Result, err = json.Marshal(result)
	}
	if err != nil {
		m = message{Error: s.cfg.Failure(err)}
	}
	if err := writeLine(conn, m); err != nil {
		s.cfg.Log.Warn("control answer not delivered", "error", err)
	}
}

func writeLine(conn net.Conn, m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode control answer: %w", err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(requestTimeout))
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write control answer: %w", err)
	}
	return nil
}
