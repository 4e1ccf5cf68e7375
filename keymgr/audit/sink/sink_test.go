package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

func parse(t *testing.T, text string) trail.Sink {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, s trail.Sink, limit time.Duration) *trail.Log {
	t.Helper()
	l, err := trail.Open(trail.Options{Dir: filepath.Join(t.TempDir(), "audit"), KeyStore: "00", Stream: "keyd", Sinks: []trail.Sink{s}, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func event(i int) *audit.Event {
	return &audit.Event{Class: audit.KeyUse, Source: audit.Keys, Name: "Decrypt", Decision: audit.Allow, ID: fmt.Sprintf("id-%d", i)}
}

// TestSockets: events reach a syslog and a journal as they expect them.
func TestSockets(t *testing.T) {
	for kind, want := range map[string]string{"syslog": "<85>", "journal": "SYSLOG_IDENTIFIER=kmsfs\nPRIORITY=5\nMESSAGE\n"} {
		path := filepath.Join(t.TempDir(), "s")
		server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		l := open(t, parse(t, "required:"+kind+":"+path), 30*time.Second)
		for i := range 3 {
			if err := l.Record(t.Context(), event(i)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 64<<10)
			n, err := server.Read(b)
			if err != nil || !bytes.HasPrefix(b[:n], []byte(want)) || !bytes.Contains(b[:n], fmt.Appendf(nil, `"eventID":"id-%d"`, i)) {
				t.Errorf("%s: %q, %v", kind, b[:n], err)
			}
		}
	}
}

// TestCollector: a collector that fails and comes back gets every event; one that is required holds operations up and fails them within the limit, another one does not.
func TestCollector(t *testing.T) {
	var down atomic.Bool
	var mu sync.Mutex
	got := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(string(body)) {
			if e, err := audit.Parse([]byte(strings.TrimSpace(line))); err == nil {
				got[e.ID] = true
			}
		}
	}))
	defer server.Close()
	has := func(id string) bool {
		mu.Lock()
		defer mu.Unlock()
		return got[id]
	}
	l := open(t, parse(t, "required:"+server.URL), 500*time.Millisecond)
	ctx := context.Background()
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ { // on a busy machine an attempt may take longer than the limit
		if err := l.Record(ctx, event(i)); err == nil {
			if !has(fmt.Sprintf("id-%d", i)) {
				t.Error("acknowledged before the collector has it")
			}
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	down.Store(true)
	if err := l.Record(ctx, event(1000)); !errors.Is(err, audit.ErrBlocked) {
		t.Errorf("required and down: %v", err)
	}
	down.Store(false)
	for !has("id-1000") { // it is in the log, and goes where it belongs
		if time.Now().After(deadline.Add(time.Minute)) {
			t.Fatal("an event is not delivered later")
		}
		time.Sleep(10 * time.Millisecond)
	}
	down.Store(true)
	free := open(t, parse(t, server.URL), 30*time.Second)
	if err := free.Record(ctx, event(2000)); err != nil {
		t.Errorf("not required and down: %v", err)
	}
}

// TestBlackHole: a collector that never answers fails operations within the limit where it is required, and the log closes all the same.
func TestBlackHole(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel, reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	l := open(t, parse(t, "required:http://"+hole.Addr().String()), 300*time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- l.Record(context.Background(), event(1)) }()
	select {
	case err := <-done:
		if !errors.Is(err, audit.ErrBlocked) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("an operation hangs")
	}
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("closing hangs")
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "file:/x", "required:", "http://", "https://user:secret@host/", "tcp:1.2.3.4"} {
		if _, err := Parse(bad); !errors.Is(err, ErrSink) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
