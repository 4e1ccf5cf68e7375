package trail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// tmpfs makes a directory in shared memory for one test.
func tmpfs(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kmsfs-audit-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// spooled are the options of a stream with a spool.
func spooled(dir, shm string) Options {
	o := options(dir)
	o.Spools = []string{shm}
	return o
}

// access records an event of access with a path of its own.
func access(l *Log, i int) error {
	e := of(audit.Access, i)
	e.Path = fmt.Sprintf("/acked/%d", i)
	return l.Record(context.Background(), e)
}

// times counts how often each path below /acked is in the log.
func times(t *testing.T, dir string) map[string]int {
	t.Helper()
	found := map[string]int{}
	if err := Search(t.Context(), dir, Query{Path: "/acked"}, func(f Found) error { found[f.Event.Path]++; return nil }); err != nil {
		t.Fatal(err)
	}
	return found
}

// once checks that each of n events is in the log exactly once.
func once(t *testing.T, dir string, n int) {
	t.Helper()
	found := times(t, dir)
	for i := range n {
		if got := found[fmt.Sprintf("/acked/%d", i)]; got != 1 {
			t.Errorf("event %d is in the log %d times", i, got)
		}
	}
}

const envVictim = "KMSFS_AUDIT_VICTIM"

// TestVictim is the process that TestSpoolKilled kills: it records events and says which are acknowledged.
func TestVictim(t *testing.T) {
	dir, shm, ok := strings.Cut(os.Getenv(envVictim), ":")
	if !ok {
		t.Skip("only as a process of TestSpoolKilled")
	}
	l := open(t, spooled(dir, shm), newNotary(t))
	out := bufio.NewWriterSize(os.Stdout, 1) // unbuffered
	for i := 0; ; i++ {
		if err := access(l, i); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "acked %d\n", i)
		out.Flush()
	}
}

// TestSpoolKilled: what was acknowledged before kill -9 is in the log exactly once when it is opened again, whether the writer had got to it or not.
func TestSpoolKilled(t *testing.T) {
	trials := 6
	if os.Getenv("KMSFS_LONG") == "1" {
		trials = 200
	}
	left := 0
	for trial := range trials {
		dir, shm := filepath.Join(t.TempDir(), "audit"), tmpfs(t)
		cmd := exec.Command(os.Args[0], "-test.run", "^TestVictim$")
		cmd.Env = append(os.Environ(), envVictim+"="+dir+":"+shm)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		acked := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
				if acked = must(strconv.Atoi(n)) + 1; acked == 20+trial*7 {
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		_ = cmd.Wait()
		if acked < 20+trial*7 {
			t.Fatalf("it ended by itself after %d events", acked)
		}
		before := len(times(t, dir))
		n := newNotary(t)
		if err := open(t, spooled(dir, shm), n).Close(); err != nil {
			t.Fatal(err)
		}
		if whole(t, dir, n.trust()); len(times(t, dir)) > before {
			left++
		}
		if once(t, dir, acked); t.Failed() {
			t.Fatalf("trial %d: %d were acknowledged", trial, acked)
		}
		if names := must(os.ReadDir(shm)); len(names) != 0 {
			t.Errorf("after a clean end %v is left", names)
		}
	}
	if left == 0 {
		t.Error("nothing was ever left in the spool: the test shows nothing")
	}
}

// TestSpoolHang: while the disk hangs, events are acknowledged for a while, then refused in bounded time; none that was acknowledged is lost.
func TestSpoolHang(t *testing.T) {
	dir, shm := filepath.Join(t.TempDir(), "audit"), tmpfs(t)
	l, d, n := faulty(t, dir, func(o *Options) { o.Limit, o.Spools = 300*time.Millisecond, []string{shm} })
	hold := make(chan struct{})
	d.set(func(d *faultDisk) { d.hold = hold })
	acked := 0
	for ; acked < 1e6; acked++ {
		if err := access(l, acked); err != nil {
			if !errors.Is(err, audit.ErrBlocked) {
				t.Fatal(err)
			}
			break
		}
	}
	if acked == 0 || acked == 1e6 {
		t.Errorf("%d events were acknowledged", acked)
	}
	d.set(func(d *faultDisk) { d.hold = nil })
	close(hold)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	once(t, dir, acked)
}

// TestSpoolFull: events that were acknowledged when the disk turns out to be full go into the reserve; those after are refused.
func TestSpoolFull(t *testing.T) {
	dir, shm := filepath.Join(t.TempDir(), "audit"), tmpfs(t)
	l, d, n := faulty(t, dir, func(o *Options) { o.Spools = []string{shm} })
	d.set(func(d *faultDisk) { d.limit, d.space = true, 20<<10 })
	acked := 0
	for ; ; acked++ {
		if err := access(l, acked); err != nil {
			if !errors.Is(err, audit.ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if err := l.Record(t.Context(), of(audit.Repair, 1)); err != nil {
		t.Errorf("repair while it is full: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	once(t, dir, acked)
}

// TestSpoolFails: events that were acknowledged and could not be written stay in the spool, and whoever opens the stream next writes them. Meanwhile new ones are refused, or go on as gaps.
func TestSpoolFails(t *testing.T) {
	dir, shm := filepath.Join(t.TempDir(), "audit"), tmpfs(t)
	l, d, n := faulty(t, dir, func(o *Options) { o.Spools = []string{shm} })
	d.set(func(d *faultDisk) {
		d.fault = func(op string) error {
			if op == "write" {
				return unix.EIO
			}
			return nil
		}
	})
	acked := 0
	for ; ; acked++ {
		if err := access(l, acked); err != nil {
			if !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
			break
		}
	}
	if acked == 0 {
		t.Error("nothing was acknowledged")
	}
	if err := l.Close(); err == nil {
		t.Error("a clean end without what was acknowledged")
	}
	if err := open(t, spooled(dir, shm), n).Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	once(t, dir, acked)
}

// TestSpoolRotates: what was acknowledged before a crash is found, also where the log's own records have begun new segments since the spool was marked.
func TestSpoolRotates(t *testing.T) {
	dir, shm := filepath.Join(t.TempDir(), "audit"), tmpfs(t)
	l, d, n := faulty(t, dir, func(o *Options) { o.Spools, o.SegmentSize = []string{shm}, 2<<10 })
	if err := access(l, 0); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := l.Record(t.Context(), of(audit.KeyUse, 100+i)); err != nil {
			t.Fatal(err)
		}
	}
	d.set(func(d *faultDisk) { d.fault = func(string) error { return unix.EIO } })
	if err := access(l, 1); err != nil {
		t.Fatal(err)
	}
	l.crash()
	if err := open(t, spooled(dir, shm), n).Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	once(t, dir, 2)
}

// TestSpoolForeign: what somebody put into the spool behind a clean end does not become part of the log, and is kept.
func TestSpoolForeign(t *testing.T) {
	dir, shm, n := filepath.Join(t.TempDir(), "audit"), tmpfs(t), newNotary(t)
	o := spooled(dir, shm)
	o.Stream = "00112233445566778899aabbccddeeff" // a key daemon's is never really at its end
	l := open(t, o, n)
	if err := access(l, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := must(spoolPath(shm, l.dir))
	s, _, err := openSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	e := of(audit.Access, 1)
	e.ID, e.Time, e.Path = audit.NewID(), time.Now(), "/acked/forged"
	if end, _, _ := s.put(nil, must(e.Append(nil))); end == 0 {
		t.Fatal("no room")
	}
	if err := s.close(false); err != nil {
		t.Fatal(err)
	}
	if err := open(t, o, n).Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	if found := times(t, dir); found["/acked/forged"] != 0 || found["/acked/0"] != 1 {
		t.Errorf("%v", found)
	}
	cut := must(filepath.Glob(filepath.Join(l.dir, "*"+cutSuffix)))
	if len(cut) != 1 || !strings.Contains(string(must(os.ReadFile(cut[0]))), "/acked/forged") {
		t.Errorf("what was found is not kept: %v", cut)
	}
}

// TestSpoolRing: a ring that has gone round several times gives back what is not done, in order, and nothing of earlier rounds; damage ends it.
func TestSpoolRing(t *testing.T) {
	path := filepath.Join(tmpfs(t), "x.audit")
	s, _, err := openSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	var ends []uint64
	for i := range 5000 {
		line := []byte(strings.Repeat("x", 700+i%37) + strconv.Itoa(i))
		end, _, _ := s.put(nil, line)
		if end == 0 {
			if err := s.mark(ends[len(ends)-100], int64(i)); err != nil {
				t.Fatal(err)
			}
			s.owed = int(s.head - s.done)
			if end, _, _ = s.put(nil, line); end == 0 {
				t.Fatal("no room")
			}
		}
		ends = append(ends, end)
	}
	undone := 0
	for _, end := range ends {
		if end > s.done {
			undone++
		}
	}
	if err := s.close(false); err != nil {
		t.Fatal(err)
	}
	again, found, err := openSpool(path)
	if err != nil || len(found) != undone || again.head != ends[len(ends)-1] {
		t.Fatalf("%d lines of %d, %v", len(found), undone, err)
	}
	for i, line := range found {
		if want := strconv.Itoa(5000 - undone + i); !strings.HasSuffix(string(line), "x"+want) {
			t.Fatalf("line %d ends with %.10q, want %s", i, line[len(line)-10:], want)
		}
	}
	at := int64(spoolRing + (ends[len(ends)-2]+100)%spoolSize)
	if _, err := again.f.WriteAt([]byte{'y'}, at); err != nil {
		t.Fatal(err)
	}
	if err := again.close(false); err != nil {
		t.Fatal(err)
	}
	if _, found, err = openSpool(path); err != nil || len(found) != undone-1 {
		t.Errorf("a damaged last line: %d lines of %d, %v", len(found), undone, err)
	}
	if _, _, err := openSpool(filepath.Join(t.TempDir(), "x.audit")); !errors.Is(err, errNoSpool) {
		t.Errorf("not on a tmpfs: %v", err)
	}
}
