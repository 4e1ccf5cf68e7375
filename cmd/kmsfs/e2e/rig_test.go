package e2e

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
)

// rig is a key store, a volume and a mount point of one test, with the surroundings that the commands get.
type rig struct {
	t      *testing.T
	dir    string
	store  string // key store
	volume string
	mnt    string
	secret []string // the options that name the key store's secret
	token  []string // the options that make the key store's token
	env    []string
}

// newRig makes the directories, and sees that nothing of it is left when the test ends.
func newRig(t *testing.T) *rig {
	t.Helper()
	_, err := os.Stat("/dev/fuse")
	need(t, err == nil, "/dev/fuse is not there: %v", err)
	if os.Geteuid() != 0 {
		needProgram(t, "fusermount3")
	}
	dir, err := os.MkdirTemp("", "kmsfs-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, store: filepath.Join(dir, "keys"), volume: filepath.Join(dir, "vault"), mnt: filepath.Join(dir, "mnt")}
	r.secret = []string{"--key-file", filepath.Join(dir, "key")}
	r.env = append(os.Environ(), "KMSFS_RUNTIME_DIR="+filepath.Join(dir, "run"), "KMSFS_KEYSTORE="+r.store)
	t.Cleanup(r.clean)
	if err := os.Chmod(dir, 0o755); err != nil { // other users go through it to the mount
		t.Fatal(err)
	}
	if err := os.Mkdir(r.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// clean ends what runs and removes everything.
func (r *rig) clean() {
	if r.t.Failed() {
		r.logs()
	}
	if st, ok := r.status(); ok {
		if res := r.run("umount", r.mnt); res.code != 0 {
			r.t.Errorf("umount at the end: %s", res)
			_ = syscall.Kill(st.PID, syscall.SIGKILL)
			_ = exec.Command("umount", "-l", r.mnt).Run()
		}
	}
	if pid := r.keydPID(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		awaitGone(r.t, pid)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Errorf("remove %s: %v", r.dir, err)
	}
}

func (r *rig) logs() {
	logs, _ := filepath.Glob(filepath.Join(r.dir, "run", "*.log"))
	for _, name := range append(logs, filepath.Join(r.store, "keyd.log")) {
		if text, err := os.ReadFile(name); err == nil {
			r.t.Logf("%s:\n%s", name, tail(text, 8000))
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// result is what a command did.
type result struct {
	args     []string
	code     int
	out, err string
}

func (r result) String() string {
	return fmt.Sprintf("kmsfs %s: exit %d\n%s%s", strings.Join(r.args, " "), r.code, r.out, r.err)
}

// run runs kmsfs with the rig's surroundings, at most for some minutes.
func (r *rig) run(args ...string) result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kmsfs"), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = &out, &errOut, r.env, r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal: a prompt must fail, not hang
	cmd.WaitDelay = 10 * time.Second
	started := time.Now()
	err := cmd.Run()
	if took := time.Since(started); took > 5*time.Second {
		r.t.Logf("slow: kmsfs %s: %v", strings.Join(args, " "), took)
	}
	res := result{args: args, out: out.String(), err: errOut.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.code = exit.ExitCode()
	case err != nil:
		r.t.Fatalf("kmsfs %s: %v", strings.Join(args, " "), err)
	}
	if strings.Contains(res.err, "panic:") || strings.Contains(res.err, "goroutine ") {
		r.t.Errorf("panic: %s", res)
	}
	return res
}

// must runs kmsfs and fails the test unless it succeeds; it returns standard output.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	res := r.run(args...)
	if res.code != 0 {
		r.t.Fatal(res)
	}
	return res.out
}

// refused runs kmsfs, which must fail with the given code and say every one of words.
func (r *rig) refused(code int, words []string, args ...string) result {
	r.t.Helper()
	res := r.run(args...)
	if res.code != code {
		r.t.Errorf("want exit %d: %s", code, res)
	}
	for _, w := range words {
		if !strings.Contains(res.err, w) {
			r.t.Errorf("the message lacks %q: %s", w, res)
		}
	}
	return res
}

func (r *rig) init() {
	r.t.Helper()
	r.must(append(append([]string{"init", r.volume}, r.secret...), r.token...)...)
}

func (r *rig) mount(options ...string) {
	r.t.Helper()
	r.must(append(append([]string{"mount", r.volume, r.mnt}, r.secret...), options...)...)
}

func (r *rig) umount() {
	r.t.Helper()
	r.must("umount", r.mnt)
}

func (r *rig) remount() {
	r.t.Helper()
	r.umount()
	r.mount()
}

// fsck checks the volume, mounted or not, which must be without a fault.
func (r *rig) fsck() {
	r.t.Helper()
	res := r.run(append([]string{"fsck", r.volume}, r.secret...)...)
	if res.code != 0 {
		r.t.Fatal(res)
	}
}

// mountStatus is the part of `kmsfs status --json` that tests look at.
type mountStatus struct {
	PID        int    `json:"pid"`
	MountPoint string `json:"mount_point"`
	State      string `json:"state"`
	Problem    string `json:"problem"`
	Keys       struct {
		State, Token string
		HSM          bool
	} `json:"keys"`
}

// status returns the status of the rig's mount; false if it is not mounted.
func (r *rig) status() (mountStatus, bool) {
	res := r.run("status", "--json")
	var all []mountStatus
	if err := json.Unmarshal([]byte(res.out), &all); err != nil {
		r.t.Errorf("status --json: %v: %s", err, res)
	}
	for _, st := range all {
		if st.MountPoint == r.mnt {
			return st, true
		}
	}
	return mountStatus{}, false
}

// daemon returns the process id of the file daemon.
func (r *rig) daemon() int {
	r.t.Helper()
	st, ok := r.status()
	if !ok || st.PID == 0 {
		r.t.Fatal("not mounted")
	}
	return st.PID
}

// keydPID returns the process id of the key daemon, 0 if none runs.
func (r *rig) keydPID() int {
	res := r.run("keystore", "status", "--json")
	var st struct{ PID int }
	if res.code != 0 || json.Unmarshal([]byte(res.out), &st) != nil {
		return 0
	}
	return st.PID
}

// kill ends a process the hard way and waits until it is gone.
func (r *rig) kill(pid int) {
	r.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.t.Fatalf("kill %d: %v", pid, err)
	}
	awaitGone(r.t, pid)
}

// awaitGone waits until a process is gone or a zombie of somebody else's.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("process %d ends", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		state := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		return len(state) > 0 && (state[0] == "Z" || state[0] == "X")
	})
}

// eventually polls until cond holds.
func eventually(t *testing.T, within time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sh runs a shell script in a directory and returns what it printed; it must succeed.
func sh(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, tail(out, 6000))
	}
	return string(out)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
