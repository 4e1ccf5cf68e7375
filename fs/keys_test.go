package fs_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

// TestKeysGoneAndBack: what needs a key fails with an errno that says why, and goes on when the key is back.
func TestKeysGoneAndBack(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{{meta.ErrKeyUnavailable, unix.ENOKEY}, {meta.ErrKeyRevoked, unix.EKEYREVOKED}} {
		m := fstest.NewMount(t, fstest.Options{})
		mustWrite(t, m.Path("f"), make([]byte, 100_000))
		held, err := os.OpenFile(m.Path("f"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if err := held.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fadvise(int(held.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		m.Keyring.Fail(c.err)
		for what, err := range map[string]error{
			"open":         openError(m.Path("f"), os.O_RDONLY),
			"create":       openError(m.Path("new"), os.O_RDWR|os.O_CREATE),
			"mkdir":        os.Mkdir(m.Path("d"), 0o755),
			"rename":       os.Rename(m.Path("f"), m.Path("g")),
			"list":         listError(m.Dir),
			"read an open": readError(held),
		} {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", what, err, c.want)
			}
		}
		if _, err := os.Stat(m.Path("f")); err != nil {
			t.Errorf("stat: %v", err)
		}
		m.Keyring.Fail(nil)
		if err := openError(m.Path("f"), os.O_RDONLY); err != nil {
			t.Errorf("open when the key is back: %v", err)
		}
		if err := readError(held); err != nil {
			t.Errorf("read when the key is back: %v", err)
		}
	}
}

func openError(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func listError(dir string) error {
	_, err := os.ReadDir(dir)
	return err
}

func readError(f *os.File) error {
	_, err := f.ReadAt(make([]byte, 10), 50_000)
	return err
}
