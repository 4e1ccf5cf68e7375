package diskfull

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

// fsIocShutdown stops a filesystem: the same call for ext4 (EXT4_IOC_SHUTDOWN) and xfs (XFS_IOC_GOINGDOWN).
const (
	fsIocShutdown = 0x8004587d // _IOR('X', 125, __u32)
	goingLogFlush = 1
)

// imageSize of a lower filesystem in bytes; xfs takes no less than 300 MB.
const imageSize = 400 << 20

// loopDisk is a filesystem on a loop device.
type loopDisk struct {
	t      testing.TB
	kind   string // ext4, xfs
	dir    string // where it is mounted
	device *os.File
}

func newLoopDisk(t testing.TB, kind string) *loopDisk {
	t.Helper()
	needProgram(t, "mkfs."+kind)
	dir := t.TempDir()
	d := &loopDisk{t: t, kind: kind, dir: filepath.Join(dir, "lower")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.make(filepath.Join(dir, "image")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	options := ""
	if kind == "ext4" {
		options = "errors=remount-ro"
	}
	if err := unix.Mount(d.device.Name(), d.dir, kind, unix.MS_NOATIME, options); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	return d
}

// make makes the image, the filesystem and the device.
func (d *loopDisk) make(image string) error {
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(imageSize); err != nil {
		return err
	}
	args := map[string][]string{
		"ext4": {"-q", "-F", "-E", "lazy_itable_init=0,nodiscard", image},
		"xfs":  {"-q", "-K", image},
	}[d.kind]
	if out, err := exec.Command("mkfs."+d.kind, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.%s: %w: %s", d.kind, err, out)
	}
	d.device, err = attach(f)
	return err
}

// attach makes a loop device of a file. Others may take the free one first.
func attach(image *os.File) (*os.File, error) {
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

// shutdown makes everything on the disk fail.
func (d *loopDisk) shutdown() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, goingLogFlush); err != nil {
		d.t.Fatal(err)
	}
}

// breakReadOnly has ext4 find an error, upon which it turns read-only though files are open for writing.
func (d *loopDisk) breakReadOnly() {
	d.t.Helper()
	path := filepath.Join("/sys/fs/ext4", filepath.Base(d.device.Name()), "trigger_fs_error")
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		d.t.Fatal(err)
	}
}

// free returns the free bytes.
func (d *loopDisk) free() int64 {
	d.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

func (d *loopDisk) close() {
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = unix.Unmount(d.dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil && !errors.Is(err, unix.EINVAL) {
		d.t.Errorf("unmount %s: %v", d.dir, err)
		_ = unix.Unmount(d.dir, unix.MNT_DETACH)
	}
	d.device.Close()
}
