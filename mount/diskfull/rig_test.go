package diskfull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rig is a volume on a loop disk, served by the real programs. The key store lies elsewhere.
type rig struct {
	t      testing.TB
	disk   *loopDisk
	dir    string
	store  string
	volume string
	mnt    string
	env    []string
	pid    int // of the file daemon
}

func newRig(t testing.TB, lower string) *rig {
	t.Helper()
	needApart(t)
	_, err := os.Stat("/dev/fuse")
	need(t, err == nil, "/dev/fuse is not there: %v", err)
	_, err = os.Stat("/dev/loop-control")
	need(t, err == nil, "no loop devices: %v", err)
	kmsfsProgram(t)
	dir, disk := t.TempDir(), newLoopDisk(t, lower)
	r := &rig{t: t, disk: disk, dir: dir, store: filepath.Join(dir, "keys"), volume: filepath.Join(disk.dir, "vault"), mnt: filepath.Join(dir, "mnt")}
	r.env = append(os.Environ(), "KMSFS_RUNTIME_DIR="+filepath.Join(dir, "run"), "KMSFS_KEYSTORE="+r.store)
	if err := os.Mkdir(r.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.clean)
	r.must("init", r.volume, "--key-file", r.keyFile())
	r.mount()
	return r
}

func (r *rig) keyFile() string { return filepath.Join(r.dir, "key") }

// clean ends the daemons; the disk is unmounted after it.
func (r *rig) clean() {
	if r.t.Failed() {
		r.t.Logf("status: %s", r.command("status"))
		r.logs()
	}
	if r.pid != 0 {
		if res := r.command("umount", r.mnt); res.code != 0 && !r.t.Failed() {
			r.t.Errorf("umount at the end: %s", res)
		}
	}
	for _, pid := range r.daemons() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		r.ends(pid)
	}
	_ = unix.Unmount(r.mnt, unix.MNT_DETACH)
}

func (r *rig) logs() {
	names, _ := filepath.Glob(filepath.Join(r.dir, "run", "*.log"))
	for _, name := range append(names, filepath.Join(r.store, "keyd.log")) {
		if text, err := os.ReadFile(name); err == nil {
			r.t.Logf("%s:\n%s", name, text[max(0, len(text)-20000):])
		}
	}
}

// result is what a command did.
type result struct {
	args     []string
	code     int
	out, err string
}

func (r result) String() string {
	return fmt.Sprintf("kmsfs %s: exit %d\n%s%s", strings.Join(r.args, " "), r.code, r.out, r.err)
}

// command runs kmsfs. The code is negative if it could not be run or was killed.
func (r *rig) command(args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, kmsfsProgram(r.t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = &out, &errOut, r.env, r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	res := result{args: args, out: out.String(), err: errOut.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.code = exit.ExitCode()
	case err != nil:
		res.code, res.err = -1, res.err+err.Error()
	}
	return res
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	res := r.command(args...)
	if res.code != 0 {
		r.t.Fatal(res)
	}
	return res.out
}

// status is what these tests look at.
type status struct {
	PID     int    `json:"pid"`
	State   string `json:"state"`
	Problem string `json:"problem"`
}

func (r *rig) status() status {
	r.t.Helper()
	var all []status
	out := r.command("status", "--json").out
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		r.t.Fatalf("status: %v, %v\n%s", all, err, out)
	}
	return all[0]
}

// mount mounts the volume and notes the daemon.
func (r *rig) mount() {
	r.t.Helper()
	r.must("mount", r.volume, r.mnt, "--key-file", r.keyFile())
	r.pid = r.status().PID
}

func (r *rig) umount() {
	r.t.Helper()
	r.must("umount", r.mnt)
	r.pid = 0
}

// alive fails the test unless the daemon of the mount serves without a complaint.
func (r *rig) alive() {
	r.t.Helper()
	if st := r.status(); st.PID != r.pid || st.State != "serving" {
		r.t.Fatalf("status of daemon %d: %+v", r.pid, st)
	}
}

// ends waits for the end of a process.
func (r *rig) ends(pid int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGQUIT) // its stacks go to its log
			r.t.Errorf("process %d does not end", pid)
			return
		}
	}
}

// patience is how long anything may take on a loaded machine.
const patience = 60 * time.Second

// daemons returns the rig's processes.
func (r *rig) daemons() (found []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		exe, _ := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if err != nil || exe != kmsfsProgram(r.t) || !bytes.Contains(env, []byte("KMSFS_RUNTIME_DIR="+r.dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// eventually tries until do succeeds, for as long as anything may take.
func (r *rig) eventually(what string, do func() error) {
	r.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	r.t.Fatalf("%s: not within %v: %v", what, patience, err)
}

// within fails the test if do hangs.
func (r *rig) within(what string, do func()) {
	r.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(patience):
		for _, pid := range r.daemons() {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
		r.t.Fatalf("%s hangs", what)
	}
}
