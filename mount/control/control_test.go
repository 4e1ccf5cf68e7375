package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var errBusy = errors.New("busy")

func start(t *testing.T, path string, handlers map[string]Handler) *Server {
	t.Helper()
	s, err := Listen(Config{Path: path, Handlers: handlers, Failure: func(err error) *Failure {
		if errors.Is(err, errBusy) {
			return &Failure{Class: "busy", Text: err.Error(), Next: "wait"}
		}
		return &Failure{Class: "other", Text: err.Error()}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func handlers() map[string]Handler {
	return map[string]Handler{
		"echo": func(_ context.Context, c *Call) (any, error) {
			var args map[string]string
			if err := c.Args(&args); err != nil {
				return nil, err
			}
			return args, nil
		},
		"count": func(_ context.Context, c *Call) (any, error) {
			for i := range 3 {
				if err := c.Emit(i); err != nil {
					return nil, err
				}
			}
			return "done", nil
		},
		"fail":   func(context.Context, *Call) (any, error) { return nil, errBusy },
		"whoami": func(_ context.Context, c *Call) (any, error) { return c.Peer, nil },
		"wait": func(ctx context.Context, c *Call) (any, error) {
			if err := c.Emit("started"); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
}

func TestCalls(t *testing.T) {
	for _, depth := range []int{0, 40} { // the second path does not fit into a socket address
		dir := filepath.Join(t.TempDir(), strings.Repeat("d", 50), strings.Repeat("e", depth))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "socket")
		start(t, path, handlers())
		ctx := t.Context()

		var echo map[string]string
		if err := Do(ctx, path, "echo", map[string]string{"a": "b\nc"}, nil, &echo); err != nil || echo["a"] != "b\nc" {
			t.Fatalf("echo: %v %v", echo, err)
		}
		var events []string
		var result string
		collect := func(e json.RawMessage) error { events = append(events, string(e)); return nil }
		if err := Do(ctx, path, "count", nil, collect, &result); err != nil || result != "done" || strings.Join(events, "") != "012" {
			t.Fatalf("count: %v %v %v", events, result, err)
		}
		var f *Failure
		if err := Do(ctx, path, "fail", nil, nil, nil); !errors.As(err, &f) || f.Class != "busy" || f.Text != "busy" || f.Next != "wait" {
			t.Fatalf("fail: %v", err)
		}
		if err := Do(ctx, path, "nonsense", nil, nil, nil); !errors.As(err, &f) || f.Class != "other" {
			t.Fatalf("unknown operation: %v", err)
		}
		var peer Peer
		if err := Do(ctx, path, "whoami", nil, nil, &peer); err != nil || peer.PID != os.Getpid() || peer.UID != os.Getuid() {
			t.Fatalf("whoami: %+v %v", peer, err)
		}
	}
}

func TestSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, path, handlers())
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", st.Mode())
	}
}

func TestNobody(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	if err := Do(t.Context(), path, "echo", nil, nil, nil); !errors.Is(err, ErrNobody) {
		t.Fatalf("no socket: %v", err)
	}
	if err := Do(t.Context(), filepath.Join(dir, "none", "s"), "echo", nil, nil, nil); !errors.Is(err, ErrNobody) {
		t.Fatalf("no directory: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := Do(t.Context(), path, "echo", nil, nil, nil); !errors.Is(err, ErrNobody) {
		t.Fatalf("dead socket: %v", err)
	}
	start(t, path, handlers()) // takes the place of the dead one
	if err := Do(t.Context(), path, "echo", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCancel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, path, handlers())
	ctx, cancel := context.WithCancel(t.Context())
	err := Do(ctx, path, "wait", nil, func(json.RawMessage) error { cancel(); return nil }, nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled call: %v", err)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := start(t, path, handlers())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Do(context.Background(), path, "wait", nil, func(json.RawMessage) error { close(started); return nil }, nil)
	}()
	<-started
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var f *Failure
	if err := <-done; !errors.As(err, &f) {
		t.Fatalf("call at close: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("socket left behind: %v", err)
	}
}

// TestGarbage sends what is no request; the server must answer a failure and go on.
func TestGarbage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, path, handlers())
	for _, bad := range []string{"\n", "nonsense\n", "{\"op\":7}\n", "{\"op\":\"echo\",\"args\":[1]}\n", strings.Repeat("x", maxRequest+10) + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		go func() { _, _ = conn.Write([]byte(bad)) }()
		err = receive(conn, nil, nil)
		conn.Close()
		if err == nil {
			t.Fatalf("request %.20q was answered", bad)
		}
	}
	if err := Do(t.Context(), path, "echo", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
}
