package diskfull

import (
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// rig is a mounted volume on a disk that can be filled. The key store lies elsewhere.
type rig struct {
	*mounttest.Rig
	disk *mounttest.Disk
}

func newRig(t testing.TB, lower string) *rig {
	t.Helper()
	disk := mounttest.NewDisk(t, lower, mounttest.DiskSize)
	r := &rig{Rig: mounttest.NewRig(t, mounttest.Options{Volume: filepath.Join(disk.Dir, "vault")}), disk: disk}
	r.Init()
	r.Mount()
	return r
}

// shutdown makes everything on the disk fail.
func (r *rig) shutdown() {
	r.T.Helper()
	if err := r.disk.Cut(mounttest.CutLogFlush); err != nil {
		r.T.Fatal(err)
	}
}
