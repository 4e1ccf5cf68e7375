package mounttest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Rig is a key store, a volume and a mount point of one test, with the surroundings that the commands get. Its fields may be changed before the commands
// that use them are run.
type Rig struct {
	T      testing.TB
	Dir    string   // with all of it, but for what lies elsewhere by Options
	Store  string   // key store
	Volume string   // made by Init
	Mnt    string   // mount point
	Secret []string // options that name the key store's secret
	Token  []string // options that make the key store's token
	Env    []string // of the commands
	PID    int      // of the file daemon that Mount has started, 0 after Umount
}

// Options say where things lie.
type Options struct {
	Volume string // "": below Dir
	Store  string // "": below Dir
}

// NewRig makes the directories, and sees that nothing of it is left when the test ends. There is no volume yet.
func NewRig(t testing.TB, o Options) *Rig {
	t.Helper()
	_, err := os.Stat("/dev/fuse")
	Need(t, err == nil, "/dev/fuse is not there: %v", err)
	if os.Geteuid() != 0 {
		NeedProgram(t, "fusermount3")
	}
	Program(t)
	dir, err := os.MkdirTemp("", "kmsfs-rig-")
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{T: t, Dir: dir, Store: o.Store, Volume: o.Volume, Mnt: filepath.Join(dir, "mnt")}
	if r.Store == "" {
		r.Store = filepath.Join(dir, "keys")
	}
	if r.Volume == "" {
		r.Volume = filepath.Join(dir, "vault")
	}
	r.Secret = []string{"--key-file", filepath.Join(dir, "key")}
	spool, err := os.MkdirTemp("/dev/shm", "kmsfs-rig-") // on a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(spool) })
	r.Env = append(os.Environ(), "KMSFS_SPOOL_DIR="+spool, "KMSFS_RUNTIME_DIR="+filepath.Join(dir, "run"), "KMSFS_KEYSTORE="+r.Store)
	t.Cleanup(r.clean)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(r.Mnt, 0o755)); err != nil { // other users go through it to the mount
		t.Fatal(err)
	}
	return r
}

// clean ends what runs and removes everything.
func (r *Rig) clean() {
	if r.T.Failed() {
		r.T.Logf("%s", r.Command("status"))
		r.logs()
	}
	if st, ok := r.Status(); ok {
		if res := r.Command("umount", r.Mnt); res.Code != 0 && !r.T.Failed() {
			r.T.Errorf("umount at the end: %s", res)
		}
		if st.PID != 0 && syscall.Kill(st.PID, 0) == nil {
			_ = syscall.Kill(st.PID, syscall.SIGKILL)
		}
	}
	if pid := r.KeydPID(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		r.Ends(pid)
	}
	for pid := range r.Daemons() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		r.Ends(pid)
	}
	_ = unix.Unmount(r.Mnt, unix.MNT_DETACH)
	if err := os.RemoveAll(r.Dir); err != nil {
		r.T.Errorf("remove %s: %v", r.Dir, err)
	}
}

// logs shows the ends of the daemons' logs.
func (r *Rig) logs() {
	names, _ := filepath.Glob(filepath.Join(r.Dir, "run", "*.log"))
	for _, name := range append(names, filepath.Join(r.Store, "keyd.log")) {
		if text, err := os.ReadFile(name); err == nil {
			r.T.Logf("%s:\n%s", name, Tail(text, 60000))
		}
	}
}

// Tail returns the last n bytes of b, or all.
func Tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// Init makes the volume, and the key store if there is none.
func (r *Rig) Init(options ...string) {
	r.T.Helper()
	args := append([]string{"init", r.Volume}, r.Secret...)
	r.Must(append(append(args, r.Token...), options...)...)
}

// Mount mounts the volume and notes the daemon.
func (r *Rig) Mount(options ...string) {
	r.T.Helper()
	r.Must(r.MountArgs(options...)...)
	r.PID = r.Daemon()
}

// MountArgs returns the command that mounts the volume.
func (r *Rig) MountArgs(options ...string) []string {
	if kind := os.Getenv("KMSFS_TEST_TRANSPORT"); kind != "" {
		options = append(options, "-o", "transport="+kind)
	}
	return append(append([]string{"mount", r.Volume, r.Mnt}, r.Secret...), options...)
}

// Umount unmounts the volume.
func (r *Rig) Umount() {
	r.T.Helper()
	r.Must("umount", r.Mnt)
	r.PID = 0
}

// Remount unmounts the volume and mounts it again.
func (r *Rig) Remount() {
	r.T.Helper()
	r.Umount()
	r.Mount()
}

// Fsck checks the volume, mounted or not, which must be without a fault.
func (r *Rig) Fsck() {
	r.T.Helper()
	r.Must(append([]string{"fsck", r.Volume}, r.Secret...)...)
}

// Status is the part of `kmsfs status --json` that tests look at.
type Status struct {
	PID        int    `json:"pid"`
	MountPoint string `json:"mount_point"`
	State      string `json:"state"`
	Problem    string `json:"problem"`
	Keys       struct {
		State, Token string
		HSM          bool
	} `json:"keys"`
}

// Status returns the status of the rig's mount; false if it is not mounted.
func (r *Rig) Status() (Status, bool) {
	res := r.Command("status", "--json")
	var all []Status
	if err := json.Unmarshal([]byte(res.Out), &all); err != nil {
		r.T.Errorf("status --json: %v: %s", err, res)
	}
	for _, st := range all {
		if st.MountPoint == r.Mnt {
			return st, true
		}
	}
	return Status{}, false
}

// Alive fails the test unless the daemon that Mount has started serves without a complaint.
func (r *Rig) Alive() {
	r.T.Helper()
	if st, ok := r.Status(); !ok || st.PID != r.PID || st.State != "serving" {
		r.T.Fatalf("status of daemon %d: %+v", r.PID, st)
	}
}
