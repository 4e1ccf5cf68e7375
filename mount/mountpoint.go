package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// place is where things lie, absolute and free of symbolic links.
type place struct {
	Volume, KeyStore, MountPoint string
}

// checkMountPoint refuses a mount point that can't work, and removes a dead mount of ours from it first. It returns the point's real path.
func checkMountPoint(volume, keyStore, mountPoint string) (place, error) {
	abs, err := filepath.Abs(mountPoint)
	if err != nil {
		return place{}, fmt.Errorf("%w %s: %w", ErrMountPoint, mountPoint, err)
	}
	if err := removeStale(abs); err != nil {
		return place{}, err
	}
	p := place{}
	if p.MountPoint, err = resolve(abs); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return place{}, fmt.Errorf("%w: %s is not there (mkdir it first)", ErrMountPoint, mountPoint)
		}
		return place{}, fmt.Errorf("%w %s: %w", ErrMountPoint, mountPoint, err)
	}
	if p.Volume, err = resolve(volume); err != nil {
		return place{}, fmt.Errorf("%w: %s: %w", ErrNotVolume, volume, err)
	}
	if p.KeyStore, err = resolve(keyStore); errors.Is(err, os.ErrNotExist) {
		return place{}, noKeyStoreFor(p.Volume, keyStore)
	} else if err != nil {
		return place{}, fmt.Errorf("key store %s: %w", keyStore, err)
	}
	if err := p.checkNesting(); err != nil {
		return place{}, err
	}
	return p, checkEmptyDir(p.MountPoint)
}

// checkNesting refuses what would make the daemon wait for itself: its own files below its own mount, or the mount inside the volume's directory.
func (p place) checkNesting() error {
	switch {
	case within(p.Volume, p.MountPoint):
		return fmt.Errorf("%w: the volume %s lies inside the mount point %s; choose one outside", ErrMountPoint, p.Volume, p.MountPoint)
	case within(p.KeyStore, p.MountPoint):
		return fmt.Errorf("%w: the key store %s lies inside the mount point %s; choose one outside", ErrMountPoint, p.KeyStore, p.MountPoint)
	case within(p.MountPoint, p.Volume):
		return fmt.Errorf("%w: %s lies inside the volume %s; choose one outside", ErrMountPoint, p.MountPoint, p.Volume)
	}
	return nil
}

func checkEmptyDir(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrMountPoint, path, err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%w: %s is not a directory", ErrMountPoint, path)
	}
	if table, err := mountTable(); err == nil {
		if m, ok := mountAt(table, path); ok && m.Type == fsType {
			return fmt.Errorf("%w: %s is already the mount of %s (kmsfs umount it first)", ErrMountPoint, path, m.Source)
		}
	}
	empty, err := dirEmpty(path)
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrMountPoint, path, err)
	}
	if !empty {
		return fmt.Errorf("%w: %s is not empty; choose an empty directory", ErrMountPoint, path)
	}
	return nil
}

func dirEmpty(path string) (bool, error) {
	d, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	return len(names) == 0, ignoreEOF(err)
}

// removeStale detaches mounts of ours at path whose daemon is dead. Others are left alone.
func removeStale(path string) error {
	real, err := realPath(path)
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrMountPoint, path, err)
	}
	for range 16 { // one on top of another is possible, but not without end
		table, err := mountTable()
		if err != nil {
			return err
		}
		m, ok := mountAt(table, real)
		if !ok || m.Type != fsType {
			return nil
		}
		dead, err := isDead(real)
		if err != nil || !dead {
			return err
		}
		if err := detach(real); err != nil {
			return fmt.Errorf("remove the dead mount at %s: %w", path, err)
		}
	}
	return fmt.Errorf("%w: %s has too many dead mounts", ErrMountPoint, path)
}

// deadWait bounds the wait for a mount's answer.
const deadWait = 5 * time.Second

// cancelledPause is between two questions to a mount that is being taken down.
const cancelledPause = 5 * time.Millisecond

// isDead asks a mount for what the kernel has not cached (attributes it may have): a dead one answers ENOTCONN. One whose daemon has just died, and had its
// requests over io_uring, cancels what is on its way: that is asked again.
func isDead(path string) (bool, error) {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		for begun := time.Now(); errors.Is(err, unix.ECANCELED) && time.Since(begun) < deadWait; err = unix.Statfs(path, &st) {
			time.Sleep(cancelledPause)
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED), nil
	case <-time.After(deadWait):
		return false, fmt.Errorf("%w: the mount at %s does not answer", ErrMountPoint, path)
	}
}

// detach unmounts lazily, as root by the system call and otherwise by FUSE's helper.
func detach(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		return fusermount("-u", "-z", "--", path)
	}
	return err
}
