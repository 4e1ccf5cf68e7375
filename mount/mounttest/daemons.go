package mounttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
)

// Patience is how long anything may take on a loaded machine.
const Patience = 60 * time.Second

// Patiently begins to wait for something that takes at most so long while the machine runs. over tells whether that has passed; stop ends it.
func Patiently(atMost time.Duration) (over func() bool, stop func()) {
	ctx, cancel := awake.WithTimeout(context.Background(), atMost)
	return func() bool { return ctx.Err() != nil }, cancel
}

// Daemon returns the process id of the file daemon.
func (r *Rig) Daemon() int {
	r.T.Helper()
	st, ok := r.Status()
	if !ok || st.PID == 0 {
		r.T.Fatal("not mounted")
	}
	return st.PID
}

// KeydPID returns the process id of the key daemon, 0 if none runs.
func (r *Rig) KeydPID() int {
	res := r.Command("keystore", "status", "--json")
	var st struct{ PID int }
	if res.Code != 0 || json.Unmarshal([]byte(res.Out), &st) != nil {
		return 0
	}
	return st.PID
}

// Daemons returns the rig's processes and which command each runs. Only root sees them.
func (r *Rig) Daemons() map[int]string {
	found := map[int]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("KMSFS_RUNTIME_DIR="+r.Dir+"/")) {
			continue
		}
		dir := filepath.Dir(path)
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if words := strings.Split(string(args), "\x00"); err == nil && exe == Program(r.T) && len(words) > 1 {
			found[pid] = words[1]
		}
	}
	return found
}

// Stacks has all daemons write their stacks to their logs, and end.
func (r *Rig) Stacks() {
	for pid, command := range r.Daemons() {
		r.T.Logf("process %d is %s", pid, command)
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
}

// Kill ends a process the hard way and waits until it is gone.
func (r *Rig) Kill(pid int) {
	r.T.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.T.Fatalf("kill %d: %v", pid, err)
	}
	r.Ends(pid)
}

// Ends waits until a process is gone, or a zombie of somebody else's.
func (r *Rig) Ends(pid int) {
	r.T.Helper()
	over, stop := Patiently(Patience)
	defer stop()
	for ; running(pid); time.Sleep(5 * time.Millisecond) {
		if over() {
			r.Stacks()
			r.T.Fatalf("process %d does not end", pid)
		}
	}
}

// running tells whether any thread of a process is: the one that it goes by may be gone while others still hold its files and locks.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(state) == 0 || state[0] != "Z" && state[0] != "X" {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err == nil && len(threads) > 1
}

// Within fails the test, with the daemons' stacks, if do hangs. do must not end the test.
func (r *Rig) Within(what string, do func()) {
	r.T.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	limit, cancel := awake.WithTimeout(context.Background(), Patience)
	defer cancel()
	select {
	case <-done:
	case <-limit.Done():
		r.Stacks()
		r.T.Fatalf("%s goes on for more than %v", what, Patience)
	}
}

// Eventually tries until do succeeds, for as long as anything may take.
func (r *Rig) Eventually(what string, do func() error) {
	r.T.Helper()
	over, stop := Patiently(Patience)
	defer stop()
	var err error
	for ; !over(); time.Sleep(20 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	r.T.Fatalf("not within %v: %s: %v", Patience, what, err)
}

// Eventually polls until cond holds.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	over, stop := Patiently(within)
	defer stop()
	for ; !cond(); time.Sleep(20 * time.Millisecond) {
		if over() {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
