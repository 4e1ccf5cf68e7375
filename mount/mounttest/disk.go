package mounttest

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

// How much of itself a filesystem saves in a cut, its own journal or nothing. The call and the values are the same for ext4 (EXT4_IOC_SHUTDOWN,
// fs/ext4/ext4.h) and xfs (XFS_IOC_GOINGDOWN, fs/xfs/libxfs/xfs_fs.h).
const (
	CutLogFlush   = 1
	CutNoLogFlush = 2

	fsIocShutdown = 0x8004587d // _IOR('X', 125, __u32)
)

// DiskSize is enough for a volume under test, in bytes; xfs takes no less than 300 MB.
const DiskSize = 400 << 20

// Disk is a filesystem on a loop device.
type Disk struct {
	Kind string // ext4, xfs
	Dir  string // where it is mounted

	t       testing.TB
	image   string
	device  string // while it is mounted
	options string // mount options
}

// NewDisk makes a filesystem of a kind and a size in bytes, and mounts it.
func NewDisk(t testing.TB, kind string, size int64) *Disk {
	t.Helper()
	NeedApart(t)
	_, err := os.Stat("/dev/loop-control")
	Need(t, err == nil, "no loop devices: %v", err)
	NeedProgram(t, "mkfs."+kind)
	dir := t.TempDir()
	d := &Disk{Kind: kind, Dir: filepath.Join(dir, "lower"), t: t, image: filepath.Join(dir, "image")}
	if kind == "ext4" {
		d.options = "errors=remount-ro"
	}
	if err := os.Mkdir(d.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.make(size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	d.mount()
	return d
}

// make makes the image and the filesystem on it.
func (d *Disk) make(size int64) error {
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(d.image, size); err != nil {
		return err
	}
	args := map[string][]string{
		"ext4": {"-q", "-F", "-E", "lazy_itable_init=0,nodiscard", d.image},
		"xfs":  {"-q", "-K", d.image},
	}[d.Kind]
	if out, err := exec.Command("mkfs."+d.Kind, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.%s: %w: %s", d.Kind, err, out)
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
func (d *Disk) mount() {
	d.t.Helper()
	device, err := attach(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer device.Close() // the mount keeps it
	d.device = device.Name()
	if err := unix.Mount(d.device, d.Dir, d.Kind, unix.MS_NOATIME, d.options); err != nil {
		d.t.Fatalf("mount %s: %v", d.Kind, err)
	}
}

// Cut cuts the power: from now on everything on the disk fails and nothing reaches it. flags is CutLogFlush or CutNoLogFlush.
func (d *Disk) Cut(flags int) error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, flags)
}

// BreakReadOnly has ext4 find an error, upon which it turns read-only though files are open for writing.
func (d *Disk) BreakReadOnly() {
	d.t.Helper()
	path := filepath.Join("/sys/fs/ext4", filepath.Base(d.device), "trigger_fs_error")
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		d.t.Fatal(err)
	}
}

// Restart mounts the filesystem again after a cut, when those who use it have ended.
func (d *Disk) Restart() {
	d.t.Helper()
	if err := d.unmount(); err != nil {
		d.t.Fatalf("unmount %s after the cut: %v", d.Dir, err)
	}
	d.mount()
}

// Sync makes durable what was written to the disk, and what was removed.
func (d *Disk) Sync() error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}

// Free returns how many bytes are free.
func (d *Disk) Free() int64 {
	d.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.Dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// Unused returns how many bytes nobody has, those that are kept for root as well.
func (d *Disk) Unused() int64 {
	d.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.Dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bfree) * int64(st.Bsize)
}

// Fill takes all that is left of the disk, for a file of somebody else's, and returns what gives it back.
func (d *Disk) Fill() (release func()) {
	d.t.Helper()
	path := filepath.Join(d.Dir, "foreign")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for off, n := int64(0), int64(32<<20); n >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, off, n)
		switch {
		case err == nil:
			off += n
		case errors.Is(err, unix.ENOSPC):
			n /= 2
		default:
			d.t.Fatal(err)
		}
	}
	return func() {
		d.t.Helper()
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			d.t.Fatal(err)
		}
	}
}

// unmount waits for processes that have just been killed.
func (d *Disk) unmount() error {
	over, stop := Patiently(Patience)
	defer stop()
	var err error
	for ; !over(); time.Sleep(10 * time.Millisecond) {
		if err = unix.Unmount(d.Dir, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}

func (d *Disk) close() {
	if err := d.unmount(); err != nil && !errors.Is(err, unix.EINVAL) {
		d.t.Errorf("unmount %s: %v", d.Dir, err)
		_ = unix.Unmount(d.Dir, unix.MNT_DETACH)
	}
}
