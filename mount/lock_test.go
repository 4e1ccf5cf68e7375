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

// TestLockInItsPlace puts other things where the lock should be: nothing is written to what they lead to.
func TestLockInItsPlace(t *testing.T) {
	for what, put := range map[string]func(victim, path string) error{
		"link":        os.Symlink,
		"second name": os.Link,
		"pipe":        func(_, path string) error { return unix.Mkfifo(path, 0o600) },
		"socket":      func(_, path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"directory":   func(_, path string) error { return os.Mkdir(path, 0o700) },
	} {
		dir, victim := t.TempDir(), t.TempDir()+"/victim"
		if err := errors.Join(os.WriteFile(victim, []byte("keep"), 0o600), put(victim, dir+"/"+lockName)); err != nil {
			t.Fatal(err)
		}
		if _, err := lockVolume(t.Context(), dir, func() error { return nil }); ClassOf(err) != ClassDamaged {
			t.Errorf("%s: %v", what, err)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "keep" {
			t.Errorf("%s: the file that it leads to is now %q (%v)", what, b, err)
		}
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
