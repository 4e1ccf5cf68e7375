package beneath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostile: whatever stands in a file's place or on the way to it is refused, at once, and what a link leads to is not touched.
func TestHostile(t *testing.T) {
	elsewhere := t.TempDir()
	victim := filepath.Join(elsewhere, "file")
	if err := os.WriteFile(victim, []byte("victim"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(root string) error{
		"link": func(root string) error { return os.Symlink(victim, filepath.Join(root, "dir", "file")) },
		"link to nothing": func(root string) error {
			return os.Symlink(filepath.Join(elsewhere, "new"), filepath.Join(root, "dir", "file"))
		},
		"hard link":        func(root string) error { return os.Link(victim, filepath.Join(root, "dir", "file")) },
		"pipe":             func(root string) error { return unix.Mkfifo(filepath.Join(root, "dir", "file"), 0o600) },
		"socket":           func(root string) error { return unix.Mknod(filepath.Join(root, "dir", "file"), unix.S_IFSOCK|0o600, 0) },
		"directory":        func(root string) error { return os.Mkdir(filepath.Join(root, "dir", "file"), 0o700) },
		"link to a device": func(root string) error { return os.Symlink("/dev/zero", filepath.Join(root, "dir", "file")) },
		"link on the way": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "dir")), os.Symlink(elsewhere, filepath.Join(root, "dir")))
		},
		"magic link on way": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "dir")), os.Symlink("/proc/self/root", filepath.Join(root, "dir")))
		},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "dir"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := put(root); err != nil {
			t.Fatal(what, err)
		}
		for _, flags := range []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_TRUNC} {
			if f, err := OpenFile(root, "dir/file", flags, 0o600); err == nil {
				t.Errorf("%s, flags %#x: opened", what, flags)
				f.Close()
			}
		}
		if what == "link on the way" {
			for op, err := range map[string]error{"remove": Remove(root, "dir/file"), "rename": Rename(root, "dir/file", "x"), "sync": SyncDir(root, "dir")} {
				if !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
					t.Errorf("%s: %v", op, err)
				}
			}
		}
	}
	for _, rel := range []string{"../file", "/etc/passwd", "dir/../../file"} {
		if f, err := OpenFile(filepath.Join(elsewhere), rel, os.O_RDONLY, 0); err == nil {
			t.Errorf("%s: opened", rel)
			f.Close()
		}
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "victim" {
		t.Errorf("what was linked to: %q, %v", b, err)
	}
	if names, err := os.ReadDir(elsewhere); err != nil || len(names) != 1 {
		t.Errorf("made elsewhere: %v, %v", names, err)
	}
}

func TestPlain(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(root, "dir/file", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("text")
	if err := errors.Join(err, f.Close(), Rename(root, "dir/file", "other"), SyncDir(root, "dir")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "dir", "other")); string(b) != "text" {
		t.Error(string(b), err)
	}
	if _, err := OpenFile(root, "dir/file", os.O_RDONLY, 0); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := Remove(root, "dir/other"); err != nil {
		t.Error(err)
	}
}
