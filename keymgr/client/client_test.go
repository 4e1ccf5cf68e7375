package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
)

// listen makes a socket that a Client trusts; each connection is given to serve, until the test ends.
func listen(t *testing.T, serve func(c net.Conn)) (socket string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return socket
}

// answer reads one request and writes text.
func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, text)
		}
	}
}

// TestBadServers: whatever answers, the call ends in time with a class.
func TestBadServers(t *testing.T) {
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  error
	}{
		"silent":          {func(net.Conn) { <-ended }, keymgr.ErrKeyUnavailable},
		"hangs up":        {func(net.Conn) {}, keymgr.ErrKeyUnavailable},
		"not HTTP":        {answer("hello\r\n\r\n"), keymgr.ErrKeyUnavailable},
		"no length":       {answer("HTTP/1.1 200 OK\r\n\r\n{}"), keymgr.ErrKeyUnavailable},
		"absurd length":   {answer("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}"), keymgr.ErrKeyUnavailable},
		"cut":             {answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"), keymgr.ErrKeyUnavailable},
		"stops half-way":  {func(c net.Conn) { answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")(c); <-ended }, keymgr.ErrKeyUnavailable},
		"not JSON":        {answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>"), keymgr.ErrInternal},
		"error, no code":  {answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\n{}"), keymgr.ErrInternal},
		"error with code": {answer("HTTP/1.1 400 Bad\r\nContent-Length: 30\r\n\r\n{\"__type\":\"DisabledException\"}"), keymgr.ErrDisabled},
	} {
		socket := listen(t, c.serve)
		for _, volume := range []blockcrypt.VolumeID{{}, {1}} { // plain, and with a registration first
			cl := New(socket, Options{Timeout: 300 * time.Millisecond, Volume: volume})
			begin := time.Now()
			_, err := cl.DescribeKey(t.Context(), keymgr.Caller{}, "k")
			if err == nil || volume.IsZero() && !errors.Is(err, c.want) {
				t.Errorf("%s, volume %s: %v, want %v", name, volume, err, c.want)
			}
			if time.Since(begin) > 5*time.Second {
				t.Errorf("%s: took %v", name, time.Since(begin))
			}
			_ = cl.Close()
		}
	}
}

func TestContextEnds(t *testing.T) {
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	c := New(listen(t, func(net.Conn) { <-ended }), Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Status(ctx)
	if !errors.Is(err, keymgr.ErrKeyUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestSourceIsWiped(t *testing.T) {
	body := []byte("secret")
	s := &source{body: body}
	first, second := s.reader(), s.reader()
	if got, err := io.ReadAll(first); err != nil || string(got) != "secret" {
		t.Errorf("%q %v", got, err)
	}
	half := make([]byte, 3)
	if _, err := io.ReadFull(second, half); err != nil || string(half) != "sec" {
		t.Errorf("%q %v", half, err)
	}
	s.wipe()
	if _, err := second.Read(half); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read after the call: %v", err)
	}
	if string(body) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("left over: %q", body)
	}
}
