package powercut

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rig is a volume on a loop disk, served by the real programs.
type rig struct {
	t      testing.TB
	disk   *loopDisk
	dir    string // of what is not cut
	store  string // key store
	volume string
	mnt    string
	env    []string
	pid    int // of the file daemon
	keyd   int // of the key daemon
}

// rigOptions say where things lie.
type rigOptions struct {
	lower    string // ext4, xfs
	storeToo bool   // the key store lies on the disk that is cut
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	needApart(t)
	_, err := os.Stat("/dev/fuse")
	need(t, err == nil, "/dev/fuse is not there: %v", err)
	_, err = os.Stat("/dev/loop-control")
	need(t, err == nil, "no loop devices: %v", err)
	kmsfsProgram(t)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // databases run as others
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	disk := newLoopDisk(t, o.lower)
	r := &rig{t: t, disk: disk, dir: dir, store: filepath.Join(dir, "keys"), volume: filepath.Join(disk.dir, "vault"), mnt: filepath.Join(dir, "mnt")}
	if o.storeToo {
		r.store = filepath.Join(disk.dir, "keys")
	}
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
		r.logs()
	}
	if r.pid != 0 {
		if res := r.run("umount", r.mnt); res.code != 0 && !r.t.Failed() {
			r.t.Errorf("umount at the end: %s", res)
		}
		r.end(r.pid)
		_ = unix.Unmount(r.mnt, unix.MNT_DETACH)
	}
	if r.keyd != 0 {
		_ = syscall.Kill(r.keyd, syscall.SIGTERM)
		r.awaitGone(r.keyd)
	}
}

func (r *rig) logs() {
	names, _ := filepath.Glob(filepath.Join(r.dir, "run", "*.log"))
	for _, name := range append(names, filepath.Join(r.store, "keyd.log")) {
		if text, err := os.ReadFile(name); err == nil {
			r.t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
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

func (r *rig) run(args ...string) result {
	r.t.Helper()
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
		r.t.Fatalf("kmsfs %s: %v", strings.Join(args, " "), err)
	}
	return res
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	res := r.run(args...)
	if res.code != 0 {
		r.t.Fatal(res)
	}
	return res.out
}

// mount mounts the volume and notes the daemon.
func (r *rig) mount() {
	r.t.Helper()
	r.must("mount", r.volume, r.mnt, "--key-file", r.keyFile())
	var all []struct {
		PID        int    `json:"pid"`
		MountPoint string `json:"mount_point"`
	}
	if err := json.Unmarshal([]byte(r.must("status", "--json")), &all); err != nil || len(all) != 1 {
		r.t.Fatalf("status after mount: %v, %v", all, err)
	}
	r.pid = all[0].PID
	var st struct{ PID int }
	if err := json.Unmarshal([]byte(r.must("keystore", "status", "--json")), &st); err != nil {
		r.t.Fatalf("status of the key store: %v", err)
	}
	r.keyd = st.PID
}

func (r *rig) umount() {
	r.t.Helper()
	r.must("umount", r.mnt)
	r.pid = 0
}

func (r *rig) end(pid int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	r.awaitGone(pid)
}

func (r *rig) awaitGone(pid int) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return
		}
	}
	r.t.Fatalf("process %d does not end", pid)
}

// crash ends the daemon, takes the mount away and the disk through the cut that was made, and mounts again.
func (r *rig) crash() {
	r.t.Helper()
	if r.store != filepath.Join(r.dir, "keys") {
		r.end(r.keyd)
	}
	r.end(r.pid)
	r.pid = 0
	if err := unix.Unmount(r.mnt, unix.MNT_DETACH); err != nil {
		r.t.Fatalf("take the dead mount away: %v", err)
	}
	r.disk.restart()
	r.mount()
}

// fsck checks the mounted volume. What a crash has lost of space is given back in the background; until that is done it may be reported.
func (r *rig) fsck() error {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res := r.run("fsck", r.mnt)
		if res.code == 0 {
			return nil
		}
		if time.Now().After(deadline) || !leftoversOnly(res.out) {
			return errors.New(res.String())
		}
	}
}

func leftoversOnly(out string) bool {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		if !strings.Contains(line, "object without a file") && !strings.Contains(line, "object is longer than its file") {
			return false
		}
	}
	return len(lines) > 1
}

// fsckClosed unmounts, checks the closed volume, which must be without a fault, and mounts again.
func (r *rig) fsckClosed() error {
	r.t.Helper()
	r.umount()
	res := r.run("fsck", r.volume, "--key-file", r.keyFile())
	r.mount()
	if res.code != 0 {
		return errors.New(res.String())
	}
	return nil
}
