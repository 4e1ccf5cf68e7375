package e2e

import (
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTimesDoNotRunBackwards: the daemon's clock is as coarse as the kernel's own for file times. With a finer one a file would be older after its
// first write than when it was made.
func TestTimesDoNotRunBackwards(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	for i := range 50 {
		fd, err := unix.Open(filepath.Join(r.Mnt, strconv.Itoa(i)), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		var made, written unix.Stat_t
		err = unix.Fstat(fd, &made)
		if err == nil {
			_, err = unix.Write(fd, []byte("x"))
		}
		if err == nil {
			err = unix.Fstat(fd, &written)
		}
		if closeErr := unix.Close(fd); err == nil {
			err = closeErr
		}
		if err != nil {
			t.Fatal(err)
		}
		if written.Mtim.Nano() < made.Mtim.Nano() {
			t.Errorf("file %d was made at %d and written at %d ns", i, made.Mtim.Nano(), written.Mtim.Nano())
		}
	}
}
