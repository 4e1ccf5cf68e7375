package diskfull

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// failure is a way for the disk to go.
type failure struct {
	name    string
	lower   string
	happen  func(r *rig)
	because []string // one of these is in the reason that status gives
}

var failures = []failure{
	{"EIO", "ext4", func(r *rig) { r.disk.shutdown() }, []string{"input/output error"}},
	{"EIO", "xfs", func(r *rig) { r.disk.shutdown() }, []string{"input/output error"}},
	{"read-only", "ext4", func(r *rig) { r.disk.breakReadOnly() }, []string{"read-only file system", "input/output error"}},
	{"removed", "ext4", func(r *rig) {
		if err := os.RemoveAll(r.volume); err != nil {
			r.t.Error(err)
		}
	}, []string{"somebody removed it", "no such file"}},
}

// The disk fails under a volume in use: programs get errors, nothing that was refused is called durable later, the volume is read-only and says why,
// and nothing hangs, unmounting included.
func TestDiskFails(t *testing.T) {
	for _, f := range failures {
		if f.lower == "xfs" && !long() {
			continue
		}
		t.Run(f.name+" "+f.lower, func(t *testing.T) {
			r := newRig(t, f.lower)
			w := &worker{dir: r.mnt, led: newLedger(), rng: rand.New(rand.NewPCG(seed(t), 5))}
			if err := writeSynced(filepath.Join(r.mnt, "before"), w.random(100_000)); err != nil {
				t.Fatal(err)
			}
			open, err := os.OpenFile(filepath.Join(r.mnt, "open"), os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			if _, err := open.Write(w.random(100_000)); err != nil {
				t.Fatal(err)
			}
			f.happen(r)
			r.within("work on a failed disk", func() { r.nothingSucceeds(open, w) })
			r.saysWhy(f.because)
			open.Close()
			r.leaves()
		})
	}
}

// nothingSucceeds tries to make changes durable in all ways.
func (r *rig) nothingSucceeds(open *os.File, w *worker) {
	for i := range 3 {
		if err := open.Sync(); err == nil {
			r.t.Errorf("fsync %d after the disk failed: no error", i)
		}
	}
	if _, err := open.WriteAt(w.random(10_000), 0); err == nil { // to the page cache
		for i := range 3 {
			if err := open.Sync(); err == nil {
				r.t.Errorf("fsync %d of a write after the disk failed: no error", i)
			}
		}
	}
	if err := writeSynced(filepath.Join(r.mnt, "new"), w.random(10)); err == nil {
		r.t.Error("a new file is durable on a failed disk")
	}
	if err := os.Mkdir(filepath.Join(r.mnt, "dir"), 0o755); err == nil {
		r.t.Error("mkdir on a failed disk: no error")
	}
	if err := os.Remove(filepath.Join(r.mnt, "before")); err == nil {
		r.t.Error("unlink on a failed disk: no error")
	}
	if _, err := os.Stat(filepath.Join(r.mnt, "before")); err != nil {
		r.t.Errorf("stat on a failed disk: %v", err)
	}
	if names, err := os.ReadDir(r.mnt); err != nil || len(names) < 2 {
		r.t.Errorf("readdir on a failed disk: %v, %v", names, err)
	}
}

// saysWhy asks for the status.
func (r *rig) saysWhy(because []string) {
	r.t.Helper()
	st := r.status()
	known := false
	for _, text := range because {
		known = known || strings.Contains(st.Problem, text)
	}
	if st.PID != r.pid || st.State != "failed" || !known {
		r.t.Errorf("status on a failed disk: %+v", st)
	}
	if out := r.command("status").out; !strings.Contains(out, "failed") || !strings.Contains(out, st.Problem) {
		r.t.Errorf("status for people does not say why:\n%s", out)
	}
}

// leaves unmounts: with an error, as the last changes could not be made durable, but the mount and the daemon are gone.
func (r *rig) leaves() {
	r.t.Helper()
	pid := r.pid
	r.within("umount of a failed disk", func() {
		if res := r.command("umount", r.mnt); res.code == 0 {
			r.t.Errorf("umount of a failed disk is a success: %s", res)
		}
	})
	r.pid = 0
	r.ends(pid)
	_ = unix.Unmount(r.mnt, unix.MNT_DETACH)
}
