package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

func mustWrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, path string) meta.Ino {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return meta.Ino(st.Ino)
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 20 s", what)
		}
	}
}

func gone(m *fstest.Mount, ino meta.Ino) func() bool {
	return func() bool {
		_, err := m.Store.Getattr(context.Background(), ino)
		return errors.Is(err, meta.ErrNotFound)
	}
}

func orphans(t *testing.T, m *fstest.Mount) (n int) {
	t.Helper()
	err := m.Store.Orphans(context.Background(), func(meta.Ino) error {
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The times of a file without a name are the kernel's alone: they are seen, and cost no transaction. Those of one that may still get a name are kept.
func TestTimesOfNamelessFiles(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	mustWrite(t, m.Path("f"), []byte("x"))
	unlinked, err := os.OpenFile(m.Path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unlinked.Close()
	if err := os.Remove(m.Path("f")); err != nil {
		t.Fatal(err)
	}
	linkable, err := os.OpenFile(m.Path("."), os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer linkable.Close()
	for _, c := range []struct {
		file *os.File
		kept bool
	}{{unlinked, false}, {linkable, true}} {
		info, err := c.file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		ino := meta.Ino(info.Sys().(*syscall.Stat_t).Ino)
		before, err := m.Store.Getattr(context.Background(), ino)
		if err != nil {
			t.Fatal(err)
		}
		mtime := unix.Timespec{Sec: 1_000_000_007, Nsec: 11}
		path := fmt.Sprintf("/proc/self/fd/%d", c.file.Fd())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}, 0); err != nil {
			t.Fatal(err)
		}
		if info, err = c.file.Stat(); err != nil || !info.ModTime().Equal(time.Unix(mtime.Unix())) {
			t.Errorf("kept %v: mtime is %v, %v", c.kept, info.ModTime(), err)
		}
		after, err := m.Store.Getattr(context.Background(), ino)
		if err != nil || (after.Version != before.Version) != c.kept || (after.Mtime.Sec == mtime.Sec) != c.kept {
			t.Errorf("kept %v: row of version %d, mtime %v; before %d; %v", c.kept, after.Version, after.Mtime, before.Version, err)
		}
	}
}

func TestUnlinkedFileLivesAsLongAsItIsOpen(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	want := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	mustWrite(t, m.Path("f"), want)
	ino := inode(t, m.Path("f"))
	f, err := os.OpenFile(m.Path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(m.Path("f")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("more"), int64(len(want))); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want)+4)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, append(want, "more"...)) {
		t.Errorf("content changed (%v)", err)
	}
	if err := f.Chmod(0o600); err != nil {
		t.Error(err)
	}
	f.Close()
	eventually(t, "the unlinked file is released", gone(m, ino))
	if n := orphans(t, m); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}

func TestUnlinkedFileIsThereForDescriptorsWithoutAnOpen(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	mustWrite(t, m.Path("f"), []byte("content"))
	ino := inode(t, m.Path("f"))
	fd, err := unix.Open(m.Path("f"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.Remove(m.Path("f")); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 || st.Size != 7 {
		t.Errorf("fstat: %v, %d links, %d bytes", err, st.Nlink, st.Size)
	}
	got, err := os.ReadFile(filepath.Join("/proc/self/fd", itoa(fd)))
	if err != nil || string(got) != "content" {
		t.Errorf("opened again: %q, %v", got, err)
	}
	unix.Close(fd)
	eventually(t, "the unlinked file is released", gone(m, ino))
}

func TestRemovedWorkingDirectory(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	if err := os.Mkdir(m.Path("d"), 0o755); err != nil {
		t.Fatal(err)
	}
	ino := inode(t, m.Path("d"))
	d, err := os.Open(m.Path("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Remove(m.Path("d")); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil || st.Nlink != 0 {
		t.Errorf("fstat: %v, %d links", err, st.Nlink)
	}
	if err := unix.Mkdirat(int(d.Fd()), "sub", 0o755); !errors.Is(err, unix.ENOENT) {
		t.Errorf("mkdir in it: %v", err)
	}
	d.Close()
	eventually(t, "the removed directory is released", gone(m, ino))
}

func TestReplacedFileIsReleased(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	mustWrite(t, m.Path("old"), bytes.Repeat([]byte{1}, 100_000))
	mustWrite(t, m.Path("new"), bytes.Repeat([]byte{2}, 100_000))
	ino := inode(t, m.Path("old"))
	if err := os.Rename(m.Path("new"), m.Path("old")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replaced file is released", gone(m, ino))
}

func TestTmpfileIsReleasedUnlessLinked(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	open := func() (int, meta.Ino) {
		fd, err := unix.Open(m.Dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte("temporary")); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 {
			t.Fatalf("fstat: %v, %d links", err, st.Nlink)
		}
		return fd, meta.Ino(st.Ino)
	}
	fd, ino := open()
	unix.Close(fd)
	eventually(t, "the temporary file is released", gone(m, ino))

	fd, ino = open()
	if err := unix.Linkat(unix.AT_FDCWD, filepath.Join("/proc/self/fd", itoa(fd)), unix.AT_FDCWD, m.Path("named"), unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	m.Remount()
	if got, err := os.ReadFile(m.Path("named")); err != nil || string(got) != "temporary" || inode(t, m.Path("named")) != ino {
		t.Errorf("after remount: %q, %v", got, err)
	}
	if n := orphans(t, m); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}

func TestUnmountReleasesWhatHasNoName(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	mustWrite(t, m.Path("f"), []byte("content"))
	ino := inode(t, m.Path("f"))
	fd, err := unix.Open(m.Path("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(m.Path("f")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := m.Server.Unmount(ctx); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("unmount with an open file: %v", err)
	}
	unix.Close(fd)
	m.Remount()
	if _, err := m.Store.Getattr(context.Background(), ino); !errors.Is(err, meta.ErrNotFound) {
		t.Errorf("after remount: %v", err)
	}
}

func TestInodeNumbersAreStable(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	mustWrite(t, m.Path("f"), nil)
	before := inode(t, m.Path("f"))
	m.Remount()
	if after := inode(t, m.Path("f")); after != before {
		t.Errorf("inode %d became %d", before, after)
	}
}
