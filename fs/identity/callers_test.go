package identity

import (
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clock is a time that tests turn.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func withClock() (*Resolver, *clock) {
	r, c := New(Config{}), &clock{time.Now()}
	r.now = c.read
	return r, c
}

// TestCallerExecs: a thread that is remembered and goes on to run another program is taken for that at once.
func TestCallerExecs(t *testing.T) {
	first, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	first, err = filepath.EvalSymlinks(first)
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "sleep")
	copyProgram(t, second, "")
	cmd := exec.Command(first, "-c", `read x; exec "$0" 300`, second)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r, _ := withClock() // stands still
	pid := uint32(cmd.Process.Pid)
	for range 2 {
		if p := program(r, pid, true); p.Path != first {
			t.Fatalf("%+v", p)
		}
	}
	if _, p := r.Caller(t.Context(), pid, 1, 1, Wants{}); p.Path != "" || p.Digest != nil || p.Claim != first {
		t.Errorf("what was not looked at for a request is believed: %+v", p)
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		exe, err := filepath.EvalSymlinks(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "exe"))
		if err == nil && exe == second {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it runs %q, %v", exe, err)
		}
	}
	if p := program(r, pid, true); p.Path != second {
		t.Errorf("after execve: %+v", p)
	}
}

// TestCallerChanges: what counts at once, and what after a while.
func TestCallerChanges(t *testing.T) {
	needRoot(t)
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	r, now := withClock()
	ends := func(groups ...uint32) uint32 {
		return sleeper(t, path, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1, Groups: groups}})
	}
	pid := ends(2)
	p := principal(r, pid, 1, 1)
	if p.Unix.UnresolvedGroups || !slices.Contains(p.Unix.Groups, r.names.group(2)) {
		t.Fatalf("%+v", p.Unix)
	}
	if p := principal(r, pid, 2, 1); !p.Unix.UnresolvedGroups {
		t.Errorf("a thread that acts as another user has the groups that it had: %+v", p.Unix)
	}
	// What is remembered under a number is not believed of another thread that got it.
	other := ends(3)
	r.callers.mu.Lock()
	for _, c := range r.callers.known {
		c.uid, c.gid = 1, 1
		r.callers.known[other] = c
	}
	delete(r.callers.known, pid)
	r.callers.mu.Unlock()
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
	now.now = now.now.Add(recently)
	if p := principal(r, other, 1, 1); !slices.Contains(p.Unix.Groups, r.names.group(3)) || slices.Contains(p.Unix.Groups, r.names.group(2)) {
		t.Errorf("a thread has the groups of another one that had its number: %+v", p.Unix)
	}
	// Groups alone: read anew when the time is over.
	asked := func() time.Time {
		principal(r, other, 1, 1)
		r.callers.mu.Lock()
		defer r.callers.mu.Unlock()
		return r.callers.known[other].asked
	}
	before := asked()
	now.now = now.now.Add(trustFor - 1)
	if asked() != before {
		t.Error("groups are read anew each time")
	}
	now.now = now.now.Add(1)
	if asked() == before {
		t.Error("groups count for ever")
	}
}

// waitGone waits until a process that was killed has nothing in /proc but its number.
func waitGone(t *testing.T, pid uint32) {
	t.Helper()
	p, err := openProcess(pid)
	if err != nil {
		return
	}
	defer p.close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		var st unix.Statx_t
		if unix.Statx(p.dir, "exe", 0, unix.STATX_BASIC_STATS, &st) != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not end")
		}
	}
}

// TestCallersBounded: no more threads are remembered, and no more descriptors held, than there may be.
func TestCallersBounded(t *testing.T) {
	r, _ := withClock()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t, path, nil)
	for i := range 3 * maxCallers {
		c, err := r.callers.take(pid, 1, 1, r.now(), Wants{})
		if err != nil {
			t.Fatal(err)
		}
		r.callers.put(uint32(i), c)
	}
	if n := len(r.callers.known); n > maxCallers {
		t.Errorf("%d are remembered", n)
	}
	r.Caller(context.Background(), pid, 1, 1, Wants{})
}
