package localhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// States of a connection.
const (
	idle int32 = iota
	busy
	closed
)

// conn is a connection. All but state and turn belong to its goroutine.
type conn struct {
	server *Server
	net    net.Conn
	ctx    context.Context
	end    context.CancelFunc // when the client is gone
	in     *bufio.Reader      // of allowance
	out    []byte             // the answer; wiped when it is sent

	allowance allowance
	readBy    time.Time // deadline that is set
	writeBy   time.Time

	state  atomic.Int32
	turn   atomic.Uint32 // counts requests
	seen   uint32        // patrol's: turn when it looked last
	hangup bool          // patrol's: it is told when the client goes away
}

// inputSize is of the buffer that requests are read through: more than the usual one takes.
const inputSize = 4 << 10

func (s *Server) newConn(ctx context.Context, nc net.Conn) *conn {
	c := &conn{server: s, net: nc}
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, nc)
	}
	c.ctx, c.end = context.WithCancel(ctx)
	c.allowance = allowance{r: nc, left: inputSize}
	c.in = bufio.NewReaderSize(&c.allowance, inputSize)
	return c
}

func (c *conn) close() {
	c.end()
	_ = c.net.Close()
}

func (c *conn) serve() {
	for c.await() && c.answer() {
		if !c.state.CompareAndSwap(busy, idle) || c.server.closing() {
			return
		}
	}
}

// await waits for the first byte of a request; false if there is none, or there shall be none any more.
func (c *conn) await() bool {
	b := &c.server.Bounds
	c.allowance.left = int64(b.Size)
	if now := time.Now(); c.readBy.Sub(now) < b.Idle {
		c.setRead(now.Add(2 * b.Idle))
	}
	if _, err := c.in.Peek(1); err != nil {
		return false
	}
	c.turn.Add(1)
	c.server.watch()
	return c.state.CompareAndSwap(idle, busy)
}

var headerEnd = []byte("\r\n\r\n")

// answer reads a request and answers it; false if the connection is of no more use.
func (c *conn) answer() bool {
	r, began, err := c.read()
	switch {
	case errors.Is(err, errHeaderSize):
		return c.refuse(http.StatusRequestHeaderFieldsTooLarge)
	case err != nil:
		var timeout net.Error
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &timeout) {
			return false
		}
		return c.refuse(http.StatusBadRequest)
	case r.ProtoMajor != 1:
		return c.refuse(http.StatusHTTPVersionNotSupported)
	case r.ProtoMinor > 0 && r.Host == "" || !wellFormed(r.Header):
		return c.refuse(http.StatusBadRequest)
	}
	body := &body{c: c, r: r.Body, began: began, length: r.ContentLength}
	switch r.Header.Get("Expect") {
	case "":
	case "100-continue":
		body.asked = true
	default:
		return c.refuse(http.StatusExpectationFailed)
	}
	r.Body = body
	w := &response{c: c, header: http.Header{}, body: body, last: r.Close}
	c.server.Handler.ServeHTTP(w, r.WithContext(c.ctx))
	if err := w.send(); err != nil {
		return false
	}
	if w.last {
		c.linger()
	}
	return !w.last
}

// read reads a request without its body; began is when its first byte was there.
func (c *conn) read() (r *http.Request, began time.Time, err error) {
	began = time.Now()
	if have, _ := c.in.Peek(c.in.Buffered()); !bytes.Contains(have, headerEnd) {
		c.setRead(began.Add(c.server.Bounds.Header))
	}
	if r, err = http.ReadRequest(c.in); err != nil {
		if c.allowance.left <= 0 {
			err = errHeaderSize
		}
		return nil, began, err
	}
	c.allowance.left = 1<<63 - 1 // what a body may be is for the handler to say
	return r, began, nil
}

func (c *conn) setRead(at time.Time) {
	c.readBy = at
	_ = c.net.SetReadDeadline(at) // where it fails, so does reading
}

func (c *conn) setWrite(at time.Time) {
	c.writeBy = at
	_ = c.net.SetWriteDeadline(at)
}

// write sends p within the bound, or twice that.
func (c *conn) write(p []byte) error {
	if now := time.Now(); c.writeBy.Sub(now) < c.server.Bounds.Write {
		c.setWrite(now.Add(2 * c.server.Bounds.Write))
	}
	_, err := c.net.Write(p)
	return err
}

// refuse answers what is no request. Nothing more is read of the connection.
func (c *conn) refuse(status int) bool {
	w := &response{c: c, header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, status: status, last: true}
	if _, err := w.Write([]byte(http.StatusText(status))); err == nil && w.send() == nil {
		c.linger()
	}
	return false
}

// lingerTime is how long a client may go on sending what is not read, before it cannot read its answer any more.
const lingerTime = 500 * time.Millisecond

// linger ends an answer after which the connection is closed: closed with something unread, the client would find an error instead of the answer.
func (c *conn) linger() {
	if half, ok := c.net.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	c.setRead(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, c.net)
}
