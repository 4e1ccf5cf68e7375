package mount

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := lockVolume(t.Context(), dir, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	alive := errors.New("it serves")
	_, err = lockVolume(t.Context(), dir, func() error { return alive })
	if !errors.Is(err, ErrInUse) || !errors.Is(err, alive) {
		t.Fatalf("second lock: %v", err)
	}
	asked := 0
	second, err := lockVolume(t.Context(), dir, func() error { // the first goes while the second waits
		if asked++; asked == 2 {
			return first.release()
		}
		return nil
	})
	if err != nil {
		t.Fatalf("lock after release: %v", err)
	}
	f, err := os.Open(second.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := readPID(f); got != strconv.Itoa(os.Getpid()) {
		t.Fatalf("pid in lock file: %q", got)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockHostile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", dir+"/"+lockName); err != nil {
		t.Fatal(err)
	}
	if _, err := lockVolume(t.Context(), dir, func() error { return nil }); err == nil || errors.Is(err, ErrInUse) {
		t.Fatalf("lock through a symbolic link: %v", err)
	}
	f := must(os.CreateTemp(dir, ""))(t)
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat("x", 100)); err != nil {
		t.Fatal(err)
	}
	if got := readPID(f); got != "?" {
		t.Fatalf("pid of garbage: %q", got)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func dupFD(f *os.File) (int, error) { return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 100) }
