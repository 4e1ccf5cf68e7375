package localhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
)

// generous are bounds that nothing here comes near to.
var generous = Bounds{Header: time.Minute, Read: time.Minute, Write: time.Minute, Idle: time.Minute, Size: 8 << 10}

// serve serves on a socket until the test ends.
func serve(t *testing.T, b Bounds, h http.HandlerFunc) (s *Server, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s = &Server{Handler: h, Bounds: b}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		s.running.Wait()
	})
	return s, socket
}

func connect(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// echo answers with the request's path and body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100<<10))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	w.Header().Set("X-Path", r.URL.Path)
	_, _ = w.Write(body)
}

// exchange sends text and reads as many answers as are wanted: status and body of each.
func exchange(t *testing.T, c net.Conn, in *bufio.Reader, text string, answers int) (out []string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	for range answers {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Header.Get("Date") == "" && resp.StatusCode != 100 {
			t.Errorf("%v %v", resp.Header, err)
		}
		out = append(out, fmt.Sprint(resp.StatusCode, " ", string(body), " ", resp.Close))
	}
	return out
}

// TestRequests: what is a request and what is none, and whether the connection is good for another one.
func TestRequests(t *testing.T) {
	_, socket := serve(t, generous, echo)
	post := func(header, body string) string { return "POST /p HTTP/1.1\r\nHost: x\r\n" + header + "\r\n" + body }
	for name, c := range map[string]struct {
		send string
		want []string
	}{
		"one":          {post("Content-Length: 3\r\n", "abc"), []string{"200 abc false"}},
		"two at once":  {post("Content-Length: 3\r\n", "abc") + post("Content-Length: 2\r\n", "de"), []string{"200 abc false", "200 de false"}},
		"no body":      {post("", ""), []string{"200  false"}},
		"chunked":      {post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), []string{"200 abcde false"}},
		"last":         {post("Connection: close\r\n", ""), []string{"200  true"}},
		"1.0":          {"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\na", []string{"200 a true"}},
		"told to send": {post("Expect: 100-continue\r\nContent-Length: 1\r\n", "a"), []string{"100  false", "200 a false"}},
		"other wish":   {post("Expect: more\r\n", ""), []string{"417 Expectation Failed true"}},
		"no host":      {"POST / HTTP/1.1\r\n\r\n", []string{"400 Bad Request true"}},
		"version 2":    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{"505 HTTP Version Not Supported true"}},
		"no request":   {"GIMME\r\n\r\n", []string{"400 Bad Request true"}},
		"both lengths": {post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), []string{"200  false"}},
		"two lengths":  {post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), []string{"400 Bad Request true"}},
		"bad coding":   {post("Transfer-Encoding: gzip\r\n", ""), []string{"400 Bad Request true"}},
		"folded":       {post("X: a\r\n b\r\n", ""), []string{"200  false"}},
		"space":        {post("X : a\r\n", ""), []string{"400 Bad Request true"}},
		"bare CR":      {post("X: a\rb\r\n", ""), []string{"400 Bad Request true"}},
		"zero":         {post("X: \x00\r\n", ""), []string{"400 Bad Request true"}},
		"long header":  {post("X: "+strings.Repeat("x", 16<<10)+"\r\n", ""), []string{"431 Request Header Fields Too Large true"}},
		"long body":    {post("Content-Length: 300000\r\n", strings.Repeat("x", 300000)), []string{"400 " + strings.Repeat("x", 100<<10) + " true"}},
	} {
		t.Run(name, func(t *testing.T) {
			c1 := connect(t, socket)
			in := bufio.NewReader(c1)
			got := exchange(t, c1, in, c.send, len(c.want))
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Fatalf("%.300q", got)
			}
			if strings.HasSuffix(c.want[len(c.want)-1], "true") {
				if n, err := io.Copy(io.Discard, in); n > 0 || err != nil {
					t.Errorf("behind the last answer: %d bytes, %v", n, err)
				}
				return
			}
			if again := exchange(t, c1, in, post("Content-Length: 5\r\n", "again"), 1); again[0] != "200 again false" {
				t.Errorf("the next one: %q", again)
			}
		})
	}
}

// TestUnread: a handler that does not read the body leaves none of it to be taken for the next request.
func TestUnread(t *testing.T) {
	_, socket := serve(t, generous, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	smuggled := "POST /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	c := connect(t, socket)
	in := bufio.NewReader(c)
	short := fmt.Sprintf("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(smuggled), smuggled)
	if got := exchange(t, c, in, short+strings.Replace(short, "/1 ", "/2 ", 1), 2); got[0] != "200 /1 false" || got[1] != "200 /2 false" {
		t.Errorf("%q", got)
	}
	for _, send := range []string{
		"POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + smuggled,
		"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n" + smuggled,
		"POST /3 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\n" + smuggled,
	} {
		c := connect(t, socket)
		in := bufio.NewReader(c)
		if got := exchange(t, c, in, send, 1); got[0] != "200 /3 true" {
			t.Errorf("%q: %q", send, got)
		}
		if n, err := io.Copy(io.Discard, in); n > 0 || err != nil {
			t.Errorf("%q: then %d bytes, %v", send, n, err)
		}
	}
}

// TestClientGone: the context of a request ends when its client closes the connection, even before it is answered; also of one that comes when none has for a while.
func TestClientGone(t *testing.T) {
	begun, ended := make(chan bool), make(chan error, 1)
	server, socket := serve(t, generous, func(_ http.ResponseWriter, r *http.Request) {
		begun <- true
		select {
		case <-r.Context().Done():
			ended <- nil
		case <-time.After(time.Minute):
			ended <- errors.New("nobody noticed")
		}
	})
	for range 3 {
		c := connect(t, socket)
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-begun
		_ = c.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		hsmtest.Eventually(t, func() error {
			if server.watched.Load() {
				return errors.New("connections are looked at though there are no requests")
			}
			return nil
		})
	}
}

// TestShutdown: what is under way is answered, what is idle is closed, and nothing new is taken.
func TestShutdown(t *testing.T) {
	begun, goOn := make(chan bool), make(chan bool)
	s, socket := serve(t, generous, func(w http.ResponseWriter, _ *http.Request) {
		begun <- true
		<-goOn
		_, _ = io.WriteString(w, "done")
	})
	waiting, busy := connect(t, socket), connect(t, socket)
	if _, err := io.WriteString(busy, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	if n, err := io.Copy(io.Discard, waiting); n > 0 || err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("the idle one got %d bytes, %v", n, err)
	}
	short, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.Canceled) {
		t.Errorf("not everything is answered yet: %v", err)
	}
	close(goOn)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "done" {
		t.Errorf("answer %q", body)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", socket); err == nil {
		t.Error("a connection is taken")
	}
}

// TestSlow: who sends nothing, half a header or half a body is hung up on; so is who does not read what he asked for.
func TestSlow(t *testing.T) {
	quick := Bounds{Header: 50 * time.Millisecond, Read: 100 * time.Millisecond, Write: 50 * time.Millisecond, Idle: 50 * time.Millisecond, Size: 8 << 10}
	large := bytes.Repeat([]byte("x"), 4<<20)
	_, socket := serve(t, quick, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			_, _ = w.Write(large)
		}
	})
	for _, send := range []string{"", "POST", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"} {
		c := connect(t, socket)
		if _, err := io.WriteString(c, send); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%q: %v", send, err)
		}
	}
	c := connect(t, socket)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	hsmtest.Eventually(t, func() error { // it is the server's time that passes
		if !gone(c) {
			return errors.New("who does not read is not hung up on")
		}
		return nil
	})
}

// TestAnswerWiped: the copy of an answer does not stay in the connection's buffer.
func TestAnswerWiped(t *testing.T) {
	secret := []byte("the plaintext of a data key")
	_, theirs := net.Pipe()
	c := (&Server{Bounds: generous}).newConn(t.Context(), discard{theirs})
	w := &response{c: c, header: http.Header{}}
	if _, err := w.Write(secret); err != nil || !bytes.Contains(c.out, secret) {
		t.Fatalf("%q, %v", c.out, err)
	}
	if _, err := w.Write(secret); !errors.Is(err, errAnswered) {
		t.Errorf("a second answer: %v", err)
	}
	if err := w.send(); err != nil || bytes.Contains(c.out[:cap(c.out)], secret) {
		t.Errorf("%q, %v", c.out[:cap(c.out)], err)
	}
}

// discard is a connection that takes everything.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// TestHeaderValues: a value cannot become another header.
func TestHeaderValues(t *testing.T) {
	_, socket := serve(t, generous, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", "a\r\nY: b"); w.WriteHeader(202) })
	c := connect(t, socket)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 202 || resp.Header.Get("Y") != "" || resp.Header.Get("X") != "a  Y: b" {
		t.Errorf("%+v, %v", resp, err)
	}
}

// FuzzConn: whatever is sent, the server answers with HTTP or hangs up.
func FuzzConn(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\n")
	f.Add("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	s := &Server{Handler: http.HandlerFunc(echo), Bounds: generous}
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		c := s.newConn(t.Context(), &script{in: strings.NewReader(text), out: &out})
		c.serve()
		in := bufio.NewReader(&out)
		for out.Len()+in.Buffered() > 0 {
			resp, err := http.ReadResponse(in, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

// script is a connection whose client has said everything.
type script struct {
	net.Conn
	in  io.Reader
	out io.Writer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error                     { return nil }
