package control

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxSun is the longest path a Unix socket address holds (sun_path of unix(7), less its final zero).
const maxSun = 107

// shortPath returns a name for path that fits into a socket address: itself, or one below /proc/self/fd through a descriptor of its directory,
// valid until done is called.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSun {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return "", nil, fmt.Errorf("control socket: %w", err)
		}
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("open directory of control socket %s: %w", path, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)), func() { _ = unix.Close(fd) }, nil
}
