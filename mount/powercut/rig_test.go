package powercut

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// rig is a mounted volume on a disk whose power can be cut.
type rig struct {
	*mounttest.Rig
	disk *mounttest.Disk
}

// auditSize is room for the audit log of a long run, which lies beside the volume and only grows, in bytes.
const auditSize = 600 << 20

// rigOptions say where things lie.
type rigOptions struct {
	lower    string // ext4, xfs
	storeToo bool   // the key store lies on the disk that is cut
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	size := int64(mounttest.DiskSize)
	if o.storeToo {
		size += auditSize
	}
	disk := mounttest.NewDisk(t, o.lower, size)
	at := mounttest.Options{Volume: filepath.Join(disk.Dir, "vault")}
	if o.storeToo {
		at.Store = filepath.Join(disk.Dir, "keys")
	}
	r := &rig{Rig: mounttest.NewRig(t, at), disk: disk}
	r.Init()
	r.Mount()
	return r
}

// crash ends the daemons, takes the mount away and the disk through the cut that was made, and mounts again. Sometimes the power is cut again while the
// volume recovers or makes its first checkpoint.
func (r *rig) crash(rng *rand.Rand) {
	r.T.Helper()
	r.fall()
	for rng.IntN(4) == 0 {
		r.mountInVain(rng)
	}
	r.Mount()
}

// fall is what a power cut does beside cutting the disk.
func (r *rig) fall() {
	r.T.Helper()
	for pid, command := range r.Daemons() {
		if command != "keyd" || r.storeToo() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			r.Ends(pid)
		}
	}
	r.PID = 0
	if err := unix.Unmount(r.Mnt, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		r.T.Fatalf("take the dead mount away: %v", err)
	}
	r.disk.Restart()
}

func (r *rig) storeToo() bool { return filepath.Dir(r.Store) == r.disk.Dir }

// mountInVain cuts the power while the volume is being mounted, or soon after. Mounting fails or succeeds, but it ends.
func (r *rig) mountInVain(rng *rand.Rand) {
	r.T.Helper()
	mounting := make(chan mounttest.Result, 1)
	go func() { mounting <- r.Command(r.MountArgs()...) }()
	time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
	if err := r.disk.Cut(cutFlags(rng)); err != nil {
		r.T.Fatal(err)
	}
	r.Within("mount after a cut", func() { <-mounting })
	r.fall()
}

// cutFlags draws what a filesystem saves of itself in a cut.
func cutFlags(rng *rand.Rand) int {
	return []int{mounttest.CutLogFlush, mounttest.CutNoLogFlush}[rng.IntN(2)]
}

// unmountInVain unmounts after a cut: there is an error or there is none, but nothing hangs, and the daemon ends.
func (r *rig) unmountInVain() {
	r.T.Helper()
	r.Within("umount after a cut", func() { r.Command("umount", r.Mnt) })
	r.Ends(r.PID)
}

// fsck checks the mounted volume. What a crash has lost of space is given back in the background; until that is done it may be reported.
func (r *rig) fsck() error {
	r.T.Helper()
	over, stop := mounttest.Patiently(mounttest.Patience)
	defer stop()
	for ; ; time.Sleep(20 * time.Millisecond) {
		res := r.Run("fsck", r.Mnt)
		if res.Code == 0 {
			return nil
		}
		if over() || !leftoversOnly(res.Out) {
			return errors.New(res.String())
		}
	}
}

func leftoversOnly(out string) bool {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		affected := strings.HasPrefix(line, "    ") // a path that the fault before it is about
		if !affected && !strings.Contains(line, "object without a file") && !strings.Contains(line, "object is longer than its file") {
			return false
		}
	}
	return len(lines) > 1
}

// fsckClosed unmounts, checks the closed volume, which must be without a fault, and mounts again.
func (r *rig) fsckClosed() error {
	r.T.Helper()
	r.Umount()
	res := r.Run(append([]string{"fsck", r.Volume}, r.Secret...)...)
	r.Mount()
	if res.Code != 0 {
		return errors.New(res.String())
	}
	return nil
}
