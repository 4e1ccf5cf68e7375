package mount

import (
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// RuntimeDir returns, and makes if need be, the directory for sockets, records and logs of this user's mounts: $KMSFS_RUNTIME_DIR, else
// /run/kmsfs for root, else $XDG_RUNTIME_DIR/kmsfs, else /tmp/kmsfs-UID. It belongs to this user alone (0700), or it is refused: who can write
// here can pose as a daemon.
func RuntimeDir() (string, error) {
	dir := os.Getenv("KMSFS_RUNTIME_DIR")
	if dir == "" {
		dir = defaultRuntimeDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("runtime directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("runtime directory: %w", err)
	}
	return dir, checkPrivateDir(dir)
}

func defaultRuntimeDir() string {
	if os.Geteuid() == 0 {
		return "/run/kmsfs"
	}
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		return filepath.Join(xdg, "kmsfs")
	}
	return "/tmp/kmsfs-" + strconv.Itoa(os.Geteuid())
}

// checkPrivateDir refuses a directory that is a symbolic link, belongs to somebody else, or that others may write.
func checkPrivateDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("runtime directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return advise(fmt.Errorf("directory %s: %w: must be a directory of this user that nobody else can write", dir, iofs.ErrPermission), "remove it, or name another one by KMSFS_RUNTIME_DIR or KMSFS_SPOOL_DIR")
	}
	return nil
}
