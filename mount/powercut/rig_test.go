package powercut

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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
	}
	for pid := range r.daemons() {
		r.end(pid)
	}
	_ = unix.Unmount(r.mnt, unix.MNT_DETACH)
}

func (r *rig) logs() {
	names, _ := filepath.Glob(filepath.Join(r.dir, "run", "*.log"))
	for _, name := range append(names, filepath.Join(r.store, "keyd.log")) {
		if text, err := os.ReadFile(name); err == nil {
			r.t.Logf("%s:\n%s", name, text[max(0, len(text)-60000):])
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
	res := r.command(args...)
	if res.code < 0 {
		r.t.Fatal(res)
	}
	return res
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

// crash ends the daemons, takes the mount away and the disk through the cut that was made, and mounts again. Sometimes the power is cut again while the
// volume recovers or makes its first checkpoint.
func (r *rig) crash(rng *rand.Rand) {
	r.t.Helper()
	r.fall()
	for rng.IntN(4) == 0 {
		r.mountInVain(rng)
	}
	r.mount()
}

// fall is what a power cut does beside cutting the disk.
func (r *rig) fall() {
	r.t.Helper()
	for pid, command := range r.daemons() {
		if command != "keyd" || r.storeToo() {
			r.end(pid)
		}
	}
	r.pid = 0
	if err := unix.Unmount(r.mnt, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		r.t.Fatalf("take the dead mount away: %v", err)
	}
	r.disk.restart()
}

func (r *rig) storeToo() bool { return r.store != filepath.Join(r.dir, "keys") }

// patience is how long a command may go on after its disk was cut.
const patience = 30 * time.Second

// mountInVain cuts the power while the volume is being mounted, or soon after.
func (r *rig) mountInVain(rng *rand.Rand) {
	r.t.Helper()
	mounting := make(chan result, 1)
	go func() { mounting <- r.command("mount", r.volume, r.mnt, "--key-file", r.keyFile()) }()
	time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
	if err := r.disk.cut(1 + rng.IntN(2)); err != nil {
		r.t.Fatal(err)
	}
	r.ends("mount", mounting)
	r.fall()
}

// unmountInVain unmounts after a cut: there is an error or there is none, but nothing hangs, and the daemon ends.
func (r *rig) unmountInVain() {
	r.t.Helper()
	unmounting := make(chan result, 1)
	go func() { unmounting <- r.command("umount", r.mnt) }()
	r.ends("umount", unmounting)
	for deadline := time.Now().Add(patience); syscall.Kill(r.pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.stacks()
			r.t.Fatalf("the daemon does not end after its mount")
		}
	}
}

// ends waits for a command that may fail but must end.
func (r *rig) ends(what string, done <-chan result) {
	r.t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		r.stacks()
		<-done
		r.t.Fatalf("%s goes on for more than %v after a cut", what, patience)
	}
}

// stacks has all daemons write their stacks to their logs, and end.
func (r *rig) stacks() {
	for pid, command := range r.daemons() {
		r.t.Logf("process %d is %s", pid, command)
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
}

// daemons returns the rig's processes and which command each runs.
func (r *rig) daemons() map[int]string {
	found := map[int]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("KMSFS_RUNTIME_DIR="+r.dir+"/")) {
			continue
		}
		dir := filepath.Dir(path)
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if words := strings.Split(string(args), "\x00"); err == nil && exe == kmsfsProgram(r.t) && len(words) > 1 {
			found[pid] = words[1]
		}
	}
	return found
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
