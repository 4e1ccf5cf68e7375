package keystore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

// faultyFile is a log file whose next operations fail.
type faultyFile struct {
	logFile
	mu        *sync.Mutex
	writeFail *error // after half of the bytes
	syncFail  *error
	truncFail *error
	block     *chan struct{} // not nil: Sync waits for it
	syncs     *int
}

func (f *faultyFile) get(e *error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *e
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.get(f.writeFail); err != nil {
		n, _ := f.logFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.logFile.Write(p)
}

func (f *faultyFile) Sync() error {
	f.mu.Lock()
	*f.syncs++
	block := *f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	if err := f.get(f.syncFail); err != nil {
		return err
	}
	return f.logFile.Sync()
}

func (f *faultyFile) Truncate(n int64) error {
	if err := f.get(f.truncFail); err != nil {
		return err
	}
	return f.logFile.Truncate(n)
}

// faults controls every file that a log opens.
type faults struct {
	mu                             sync.Mutex
	write, sync, trunc, openFailed error
	block                          chan struct{}
	syncs                          int
}

func (c *faults) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

func (c *faults) open(path string) (logFile, error) {
	c.mu.Lock()
	err := c.openFailed
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := openLogFile(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{logFile: f, mu: &c.mu, writeFail: &c.write, syncFail: &c.sync, truncFail: &c.trunc, block: &c.block, syncs: &c.syncs}, nil
}

func newLog(t *testing.T, path string, c *faults) *KeyUseLog {
	t.Helper()
	l, err := openLog(path, c.open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// readLog returns the operations of the lines that are JSON, and how many are not.
func readLog(t *testing.T, path string) (ops []string, torn int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var u keymgr.Use
		if json.Unmarshal(sc.Bytes(), &u) != nil {
			torn++
			continue
		}
		ops = append(ops, u.Operation)
	}
	return ops, torn
}

func record(t *testing.T, l *KeyUseLog, op string) error {
	t.Helper()
	return l.Record(t.Context(), keymgr.Use{Operation: op, Path: "/a\n\"b\"", Context: keymgr.Context{"x\n": "{}"}})
}

func TestLogAppendsAcrossOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for i := range 3 {
		l := newLog(t, path, &faults{})
		if err := record(t, l, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if ops, torn := readLog(t, path); len(ops) != i+1 || torn != 0 { // before Close: it is there when Record returns
			t.Errorf("%v %d torn", ops, torn)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := record(t, l, "x"); err == nil {
			t.Error("recorded by a closed log")
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

// TestLogFaults: what could not be written or flushed is refused, and the log goes on when the cause is gone.
func TestLogFaults(t *testing.T) {
	full := errors.New("no space left on device")
	for name, c := range map[string]struct {
		set  func(*faults)
		ops  string
		torn int
	}{
		"write":                 {func(c *faults) { c.write = full }, "[first after]", 0},
		"write, no way to undo": {func(c *faults) { c.write, c.trunc = full, full }, "[first after]", 1},
		"flush":                 {func(c *faults) { c.sync = full }, "[first during after]", 0}, // it may be there; it was refused
	} {
		path := filepath.Join(t.TempDir(), "log")
		ctl := &faults{}
		l := newLog(t, path, ctl)
		if err := record(t, l, "first"); err != nil {
			t.Fatal(err)
		}
		ctl.set(func() { c.set(ctl) })
		if err := record(t, l, "during"); !errors.Is(err, full) || !errors.Is(l.Err(), full) {
			t.Errorf("%s fails: %v, %v", name, err, l.Err())
		}
		ctl.set(func() { ctl.write, ctl.sync, ctl.trunc = nil, nil, nil })
		if err := record(t, l, "after"); err != nil || l.Err() != nil {
			t.Errorf("after %s failed: %v, %v", name, err, l.Err())
		}
		if ops, torn := readLog(t, path); fmt.Sprint(ops) != c.ops || torn != c.torn {
			t.Errorf("%s: log holds %v and %d torn lines, want %s and %d", name, ops, torn, c.ops, c.torn)
		}
	}
}

func TestLogTornByCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(`{"operation":"old"}`+"\n"+`{"operation":"cu`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLog(t, path, &faults{})
	if err := record(t, l, "new"); err != nil {
		t.Fatal(err)
	}
	if ops, torn := readLog(t, path); fmt.Sprint(ops) != "[old new]" || torn != 1 {
		t.Errorf("%v %d", ops, torn)
	}
}

func TestLogMoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	ctl := &faults{}
	l := newLog(t, path, ctl)
	if err := record(t, l, "one"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := record(t, l, "two"); err != nil {
		t.Fatal(err)
	}
	a, _ := readLog(t, path+".1")
	b, _ := readLog(t, path)
	if fmt.Sprint(a, b) != "[one] [two]" {
		t.Errorf("%v %v", a, b)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ctl.set(func() { ctl.openFailed = os.ErrPermission })
	if err := record(t, l, "three"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("log is gone: %v", err)
	}
	ctl.set(func() { ctl.openFailed = nil })
	if err := record(t, l, "four"); err != nil {
		t.Error(err)
	}
	for _, hostile := range []func() error{
		func() error { return os.Symlink("/dev/null", path) },
		func() error { return os.Mkdir(path, 0o700) },
		func() error { return os.WriteFile(path, nil, 0o644) },
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := hostile(); err != nil {
			t.Fatal(err)
		}
		if err := record(t, l, "five"); err == nil {
			t.Errorf("recorded into a hostile file")
		}
	}
}

// TestLogBounded: a disk that hangs refuses uses in time, and one flush serves those who waited.
func TestLogBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	ctl := &faults{block: make(chan struct{})}
	l := newLog(t, path, ctl)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := l.Record(ctx, keymgr.Use{Operation: "stuck"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("disk hangs: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := record(t, l, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting < 50; { // until all of them wait
		l.mu.Lock()
		if l.mu.next != nil {
			waiting = strings.Count(string(l.mu.next.lines), "\n")
		}
		l.mu.Unlock()
	}
	ctl.set(func() { close(ctl.block); ctl.block = nil })
	wg.Wait()
	if ops, torn := readLog(t, path); len(ops) != 51 || torn != 0 {
		t.Errorf("%d records, %d torn", len(ops), torn)
	}
	if ctl.syncs != 2 {
		t.Errorf("%d flushes for 51 records, want 2", ctl.syncs)
	}
	long := keymgr.Use{Detail: strings.Repeat("x", maxBacklog)}
	if err := l.Record(t.Context(), long); !errors.Is(err, errLogBehind) {
		t.Errorf("backlog: %v", err)
	}
}
