package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// openTables is the OpenKV of these tests: the real tables, small.
func openTables(ctx context.Context, p keystore.KVParams) (kv.Store, error) {
	opts := local.Options{Dir: p.Dir, Volume: p.ID, Key: p.Key, SegmentSize: 256 << 10, MaxJournal: 1 << 20, MinFree: -1}
	if p.Create {
		if err := local.Create(ctx, opts); err != nil {
			return nil, err
		}
	}
	return local.Open(ctx, opts)
}

var options = keystore.Options{OpenKV: openTables}

// keyText is the content of the key file of every key store here.
var keyText = strings.Repeat("0123456789abcdef", 4)

func buffer(t testing.TB, s string) *locked.Buffer {
	t.Helper()
	b, err := locked.FromBytes([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// newKeyStore makes a key store. An attended one does not know where its key file is.
func newKeyStore(t testing.TB, attended bool) (dir string) {
	t.Helper()
	base := t.TempDir()
	unlock := keystore.UnlockConfig{Kind: keystore.KeyFile}
	if !attended {
		unlock.KeyFile = filepath.Join(base, "key")
		if err := os.WriteFile(unlock.KeyFile, []byte(keyText), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(base, "ks")
	if _, err := keystore.Init(t.Context(), keystore.InitConfig{Dir: dir, Unlock: unlock, Secret: buffer(t, keyText), Options: options}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve runs keyd in this process until the test ends or stop is called.
func serve(t testing.TB, cfg RunConfig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan error, 1), make(chan error, 1)
	if cfg.OpenKV == nil {
		cfg.Options = options
	}
	cfg.Ready = func(err error) { ready <- err }
	go func() { ended <- Run(ctx, cfg) }()
	if err := <-ready; err != nil {
		cancel()
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("keyd: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func dial(t *testing.T, dir string, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), keystore.SocketPath(dir), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// frontKey is the front-end key of every volume here.
var frontKey = blockcrypt.Key{1, 2, 3}

// enrol records a volume, under a key of its own, with the front-end key.
func enrol(t *testing.T, dir string, volume blockcrypt.VolumeID) {
	t.Helper()
	c := dial(t, dir, client.Options{})
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err == nil {
		err = c.PutVolume(t.Context(), self, keymgr.VolumeRecord{ID: volume, CMK: md.ARN, FrontEnd: &frontKey})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// front is the front end of a volume, which it records first.
func front(t *testing.T, dir string, volume blockcrypt.VolumeID) *client.Client {
	t.Helper()
	enrol(t, dir, volume)
	return dial(t, dir, client.Options{Volume: volume, FrontEnd: &frontKey})
}

// rawConn connects to the socket without the client's help.
func rawConn(t *testing.T, dir string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", keystore.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// rawClient is HTTP over the socket, to send what the client would not.
func rawClient(t *testing.T, dir string) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", keystore.SocketPath(dir))
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

var self = keymgr.Caller{}

// TestMain lets the test binary be keyd (KEYD_TEST_DIR), or a client of another user (KEYD_TEST_DIAL).
func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYD_TEST_DIR"); dir != "" {
		go func() { // die with the test, however that dies
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(3)
		}()
		err := Run(context.Background(), RunConfig{Dir: dir, Options: options, Ready: func(err error) { fmt.Println("ready", err) }})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if socket := os.Getenv("KEYD_TEST_DIAL"); socket != "" {
		dialAsOther(socket)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dialAsOther says how the socket receives another user: with the client's checks, and without.
func dialAsOther(socket string) {
	_, err := client.Dial(context.Background(), socket, client.Options{})
	fmt.Println("client:", keymgr.Code(err))
	owner := 0
	_, err = client.Dial(context.Background(), socket, client.Options{Owner: &owner})
	fmt.Println("client that trusts root:", keymgr.Code(err))
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequest(http.MethodPost, "http://x/", strings.NewReader("{}"))
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("X-Amz-Target", "KmsfsService.Status")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		fmt.Println("raw: no connection:", errors.Is(err, os.ErrPermission))
		return
	}
	body := make([]byte, 1000)
	n, _ := resp.Body.Read(body)
	fmt.Println("raw:", resp.StatusCode, string(body[:n]))
}

// keyd is this test binary as the keyd of dir, not started yet.
func keyd(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "KEYD_TEST_DIR="+dir)
	if _, err := cmd.StdinPipe(); err != nil { // held open while the test lives
		t.Fatal(err)
	}
	return cmd
}

// child starts this test binary again as keyd and waits until it is ready.
func child(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := keyd(t, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "ready <nil>\n" {
		t.Fatalf("child keyd says %q, %v", line[:n], err)
	}
	return cmd
}

// recorder is a ResponseWriter in memory.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func newRecorder() *recorder { return &recorder{header: http.Header{}, status: 200} }

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(s int)   { r.status = s }
func (r *recorder) Write(p []byte) (int, error) {
	r.body = append(r.body, p...)
	return len(p), nil
}

func withSession(ctx context.Context, s *session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// usesIn gives the lines of the key-use log, without those of the log itself.
func usesIn(dir string) ([]byte, error) {
	var out []byte
	err := trail.Search(context.Background(), filepath.Dir(keystore.LogPath(dir)), trail.Query{Streams: []string{trail.KeyStream}}, func(f trail.Found) error {
		out = append(append(out, f.Line...), '\n')
		return nil
	})
	return out, err
}
