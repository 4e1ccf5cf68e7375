package fs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// connections is where systems mount the control files of FUSE connections.
const connections = "/sys/fs/fuse/connections"

// Abort breaks the connection to the kernel: every pending and later request fails with ECONNABORTED. What the page cache held unwritten is lost. It needs the
// FUSE control filesystem; root mounts it for the moment where it is not.
func (s *Server) Abort() error {
	file := fmt.Sprintf("%d/abort", unix.Minor(s.device))
	err := writeSysfs(filepath.Join(connections, file), "1")
	if errors.Is(err, fs.ErrNotExist) && os.Geteuid() == 0 {
		err = withControl(func(dir string) error { return writeSysfs(filepath.Join(dir, file), "1") })
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there is no such connection any more
	}
	if err != nil {
		return fmt.Errorf("abort %s: %w", s.mountPoint, err)
	}
	return nil
}

// withControl runs fn with the FUSE control filesystem mounted at dir.
func withControl(fn func(dir string) error) error {
	dir, err := os.MkdirTemp("", "kmsfs-fusectl-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("fusectl", dir, "fusectl", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount fusectl: %w", err)
	}
	return errors.Join(fn(dir), unix.Unmount(dir, unix.MNT_DETACH))
}
