package diskfull

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// failure is a way for the disk to go.
type failure struct {
	name    string
	lower   string
	happen  func(r *rig)
	because []string // one of these is in the reason that status gives
}

var failures = []failure{
	{"EIO", "ext4", func(r *rig) { r.shutdown() }, []string{"input/output error"}},
	{"EIO", "xfs", func(r *rig) { r.shutdown() }, []string{"input/output error"}},
	{"read-only", "ext4", func(r *rig) { r.disk.BreakReadOnly() }, []string{"read-only file system", "input/output error"}},
	{"removed", "ext4", func(r *rig) {
		if err := os.RemoveAll(r.Volume); err != nil {
			r.T.Error(err)
		}
	}, []string{"somebody removed it", "no such file"}},
}

// The disk fails under a volume in use: programs get errors, nothing that was refused is called durable later, the volume is read-only and says why,
// and nothing hangs, unmounting included.
func TestDiskFails(t *testing.T) {
	for _, f := range failures {
		if f.lower == "xfs" && !mounttest.Long() {
			continue
		}
		t.Run(f.name+" "+f.lower, func(t *testing.T) {
			r := newRig(t, f.lower)
			w := &worker{dir: r.Mnt, led: newLedger(), rng: rand.New(rand.NewPCG(mounttest.Seed(t), 5))}
			if err := writeSynced(filepath.Join(r.Mnt, "before"), w.random(100_000)); err != nil {
				t.Fatal(err)
			}
			open, err := os.OpenFile(filepath.Join(r.Mnt, "open"), os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			if _, err := open.Write(w.random(100_000)); err != nil {
				t.Fatal(err)
			}
			f.happen(r)
			r.Within("work on a failed disk", func() { r.nothingSucceeds(open, w) })
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
			r.T.Errorf("fsync %d after the disk failed: no error", i)
		}
	}
	if _, err := open.WriteAt(w.random(10_000), 0); err == nil { // to the page cache
		for i := range 3 {
			if err := open.Sync(); err == nil {
				r.T.Errorf("fsync %d of a write after the disk failed: no error", i)
			}
		}
	}
	if err := writeSynced(filepath.Join(r.Mnt, "new"), w.random(10)); err == nil {
		r.T.Error("a new file is durable on a failed disk")
	}
	if err := os.Mkdir(filepath.Join(r.Mnt, "dir"), 0o755); err == nil {
		r.T.Error("mkdir on a failed disk: no error")
	}
	if err := os.Remove(filepath.Join(r.Mnt, "before")); err == nil {
		r.T.Error("unlink on a failed disk: no error")
	}
	if _, err := os.Stat(filepath.Join(r.Mnt, "before")); err != nil {
		r.T.Errorf("stat on a failed disk: %v", err)
	}
	if names, err := os.ReadDir(r.Mnt); err != nil || len(names) < 2 {
		r.T.Errorf("readdir on a failed disk: %v, %v", names, err)
	}
}

// saysWhy asks for the status.
func (r *rig) saysWhy(because []string) {
	r.T.Helper()
	st, _ := r.Status()
	known := false
	for _, text := range because {
		known = known || strings.Contains(st.Problem, text)
	}
	if st.PID != r.PID || st.State != "failed" || !known {
		r.T.Errorf("status on a failed disk: %+v", st)
	}
	if out := r.Command("status").Out; !strings.Contains(out, "failed") || !strings.Contains(out, st.Problem) {
		r.T.Errorf("status for people does not say why:\n%s", out)
	}
}

// leaves unmounts: with an error, as the last changes could not be made durable, but the mount and the daemon are gone.
func (r *rig) leaves() {
	r.T.Helper()
	pid := r.PID
	r.Within("umount of a failed disk", func() {
		if res := r.Command("umount", r.Mnt); res.Code == 0 {
			r.T.Errorf("umount of a failed disk is a success: %s", res)
		}
	})
	r.PID = 0
	r.Ends(pid)
	_ = unix.Unmount(r.Mnt, unix.MNT_DETACH)
}
