package rescue

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// model is what a tree must hold, by path: kind, mode, and content or target.
type model map[string]string

// readTree returns what is below dir.
func readTree(t testing.TB, dir string) model {
	t.Helper()
	m := model{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
			var value [64]byte
			if n, err := unix.Lgetxattr(path, "user.note", value[:]); err == nil {
				what += " " + string(value[:n])
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " " + target
		}
		m[rel] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// same reports how two trees differ, "" if they do not.
func (m model) diff(other model) string {
	for path, what := range m {
		if other[path] != what {
			return fmt.Sprintf("%s: %q, want %q", path, other[path], what)
		}
	}
	for path := range other {
		if _, ok := m[path]; !ok {
			return fmt.Sprintf("%s: not expected", path)
		}
	}
	return ""
}

func (m model) mustEqual(t testing.TB, what string, got model) {
	t.Helper()
	if d := m.diff(got); d != "" {
		t.Fatalf("%s: %s", what, d)
	}
}

// writer makes and changes files of all sorts.
type writer struct {
	t   testing.TB
	dir string
	r   *rand.Rand
}

func newWriter(t testing.TB, dir string, seed uint64) *writer {
	return &writer{t, dir, rand.New(rand.NewPCG(seed, 77))}
}

func (w *writer) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(w.r.Uint32())
	}
	return b
}

// fill makes n files of all sizes in a few directories, links among them.
func (w *writer) fill(n int) {
	w.t.Helper()
	for i := range n {
		dir := filepath.Join(w.dir, fmt.Sprintf("dir%d", i%5))
		w.check(os.MkdirAll(dir, 0o755))
		path := filepath.Join(dir, fmt.Sprintf("file%d", i))
		w.check(os.WriteFile(path, w.bytes([]int{0, 100, 5000, 70_000, 400_000}[i%5]+w.r.IntN(90)), 0o640))
		switch i % 4 {
		case 0:
			w.check(os.Symlink("file"+fmt.Sprint(i), path+".link"))
		case 1:
			w.check(os.Link(path, path+".hard"))
		case 2:
			w.check(unix.Setxattr(path, "user.note", fmt.Appendf(nil, "note %d", i), 0))
		}
	}
}

// change rewrites, cuts, renames and removes what fill has made.
func (w *writer) change(n int) {
	w.t.Helper()
	for i := range n {
		path := filepath.Join(w.dir, fmt.Sprintf("dir%d", i%5), fmt.Sprintf("file%d", i))
		switch i % 7 {
		case 0, 1:
			w.patch(path)
		case 2:
			w.check(os.Truncate(path, int64(w.r.IntN(9000))))
		case 3:
			w.check(os.Remove(path))
		case 4:
			w.check(os.Rename(path, path+".moved"))
		case 5:
			w.check(os.WriteFile(path, w.bytes(20_000), 0o640))
		}
	}
}

// patch overwrites a stretch of a file and syncs it.
func (w *writer) patch(path string) {
	w.t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	w.check(err)
	defer f.Close()
	_, err = f.WriteAt(w.bytes(5000), int64(w.r.IntN(60_000)))
	w.check(err)
	w.check(f.Sync())
}
