package fs

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// tune raises the limits that the kernel sets for every FUSE mount and only root may raise. All of it is best effort: without it the mount is
// slower, nothing else.
//
//   - read_ahead_kb: reads ahead come in requests of that size; the default of 128 makes eight times as many.
//   - max_bytes (max_ratio before Linux 6.2): how much dirty data the page cache may hold for this mount; the default of 1 % of memory throttles
//     writers early. The filesystem keeps a reserve for it, so that what the kernel has accepted always fits.
func (s *Server) tune() {
	if os.Geteuid() != 0 {
		return
	}
	bdi := fmt.Sprintf("/sys/class/bdi/%d:%d/", unix.Major(s.device), unix.Minor(s.device))
	s.tryWrite(bdi+"read_ahead_kb", strconv.Itoa(maxRequest>>10))
	if writeSysfs(bdi+"max_bytes", strconv.FormatUint(s.fs.space.dirtyLimit(), 10)) != nil {
		s.tryWrite(bdi+"max_ratio", "5")
	}
}

func (s *Server) tryWrite(path, value string) {
	if err := writeSysfs(path, value); err != nil {
		s.fs.log.Info("mount not tuned", "cause", err)
	}
}

// writeSysfs writes value to an existing file of sysfs.
func writeSysfs(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}
