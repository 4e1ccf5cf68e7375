package powercut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The cut: the same call and values for ext4 (EXT4_IOC_SHUTDOWN, fs/ext4/ext4.h) and xfs (XFS_IOC_GOINGDOWN, fs/xfs/libxfs/xfs_fs.h).
const (
	fsIocShutdown   = 0x8004587d // _IOR('X', 125, __u32)
	goingLogFlush   = 1          // the filesystem's own journal is written, data is not
	goingNoLogFlush = 2          // neither is
)

// imageSize of a lower filesystem in bytes; xfs takes no less than 300 MB.
const imageSize = 400 << 20

// loopDisk is a filesystem on a loop device whose power can be cut.
type loopDisk struct {
	t     testing.TB
	kind  string // ext4, xfs
	dir   string // where it is mounted
	image string
}

func newLoopDisk(t testing.TB, kind string) *loopDisk {
	t.Helper()
	needProgram(t, "mkfs."+kind)
	dir := t.TempDir()
	d := &loopDisk{t: t, kind: kind, dir: filepath.Join(dir, "lower"), image: filepath.Join(dir, "image")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.make(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	d.mount()
	return d
}

// make makes the image and the filesystem on it.
func (d *loopDisk) make() error {
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(d.image, imageSize); err != nil {
		return err
	}
	args := map[string][]string{
		"ext4": {"-q", "-F", "-E", "lazy_itable_init=0,nodiscard", d.image},
		"xfs":  {"-q", "-K", d.image},
	}[d.kind]
	if out, err := exec.Command("mkfs."+d.kind, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.%s: %w: %s", d.kind, err, out)
	}
	return nil
}

// attach makes a loop device of a file, which goes with its last user. Others may take the free one first.
func attach(path string) (*os.File, error) {
	image, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := &unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(dev.Fd()), config); err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("configure %s: %w", dev.Name(), err)
		}
	}
	return nil, errors.New("no free loop device")
}

// mount mounts the filesystem, which replays its journal. It does so on a new device: the old one's cache may know what never got to the disk.
func (d *loopDisk) mount() {
	d.t.Helper()
	device, err := attach(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer device.Close() // the mount keeps it
	if err := unix.Mount(device.Name(), d.dir, d.kind, unix.MS_NOATIME, ""); err != nil {
		d.t.Fatalf("mount %s: %v", d.kind, err)
	}
}

// cut cuts the power: from now on nothing reaches the disk.
func (d *loopDisk) cut(flags int) error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, flags)
}

// unmount waits for processes that have just been killed.
func (d *loopDisk) unmount() error {
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = unix.Unmount(d.dir, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}

// restart mounts the filesystem again after a cut.
func (d *loopDisk) restart() {
	d.t.Helper()
	if err := d.unmount(); err != nil {
		d.t.Fatalf("unmount %s after the cut: %v", d.dir, err)
	}
	d.mount()
}

func (d *loopDisk) close() {
	if err := d.unmount(); err != nil && !errors.Is(err, unix.EINVAL) {
		d.t.Errorf("unmount %s: %v", d.dir, err)
		_ = unix.Unmount(d.dir, unix.MNT_DETACH)
	}
}
