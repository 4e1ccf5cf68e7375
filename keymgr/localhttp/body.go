package localhttp

import (
	"errors"
	"io"
	"time"
)

var errHeaderSize = errors.New("the header is too long")

// allowance reads as much as is left of what is allowed.
type allowance struct {
	r    io.Reader
	left int64
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errHeaderSize
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	return n, err
}

// body is a request's body.
type body struct {
	c      *conn
	r      io.ReadCloser
	began  time.Time
	length int64 // -1: not known
	asked  bool  // the client waits to be told to send it
	armed  bool  // the deadline is that of the body
	done   bool  // all of it was read
}

func (b *body) Read(p []byte) (int, error) {
	if b.asked {
		b.asked = false
		if err := b.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return 0, err
		}
	}
	if !b.armed && (b.length < 0 || int64(b.c.in.Buffered()) < b.length) {
		b.armed = true
		b.c.setRead(b.began.Add(b.c.server.Bounds.Read))
	}
	n, err := b.r.Read(p)
	if b.length -= int64(n); errors.Is(err, io.EOF) {
		b.done = true
	}
	return n, err
}

func (b *body) Close() error { return nil } // the rest is drained, or the connection closed

// maxDrain is how much of a body is read that the handler did not want, so that the next request can be read.
const maxDrain = 64 << 10

// drained reads the rest of a short body that is there already; false if there is more: then what follows is no request.
func (b *body) drained() bool {
	if b.done || b.length == 0 {
		return true
	}
	if b.asked || b.length < 0 || b.length > maxDrain || int64(b.c.in.Buffered()) < b.length {
		return false
	}
	n, err := io.Copy(io.Discard, b.r)
	b.length -= n
	return err == nil
}
