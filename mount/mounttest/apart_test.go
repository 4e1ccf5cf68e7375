package mounttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { MainApart(m) }

// TestDetachAll takes a mount of a volume out of the namespace, whatever its path looks like.
func TestDetachAll(t *testing.T) {
	NeedApart(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	Need(t, err == nil, "/dev/fuse: %v", err)
	defer unix.Close(fd)
	dir := filepath.Join(t.TempDir(), "with space\tand \\012 and \n")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("vault", dir, "fuse.kmsfs", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if got := mounted(t); !slices.Contains(got, dir) {
		t.Fatalf("mounted: %q, want %q", got, dir)
	}
	if err := detachAll("fuse.kmsfs"); err != nil {
		t.Fatal(err)
	}
	if got := mounted(t); len(got) != 0 {
		t.Errorf("still mounted: %q", got)
	}
}

// mounted returns the mount points of volumes in this namespace.
func mounted(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	points, err := mountPoints(f, "fuse.kmsfs")
	if err != nil {
		t.Fatal(err)
	}
	return points
}
