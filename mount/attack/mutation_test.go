package attack

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mutator makes one random change to the files of a volume.
type mutator struct {
	rng   *rand.Rand
	dir   string   // the volume
	older []string // copies of the same volume, of other times
	names []string // files of the volume, ascending
}

// kinds are the changes, each as often as it stands here.
var kinds = []struct {
	name   string
	weight int
	do     func(m *mutator, name string) (string, error)
}{
	{"flip", 40, (*mutator).flip},
	{"garbage", 10, (*mutator).garbage},
	{"zero", 6, (*mutator).zero},
	{"cut", 8, (*mutator).cut},
	{"extend", 4, (*mutator).extend},
	{"shift", 4, (*mutator).shift},
	{"delete", 6, (*mutator).remove},
	{"swap", 8, (*mutator).swap},
	{"copy over", 6, (*mutator).copyOver},
	{"replay", 10, (*mutator).replay},
	{"replay directory", 3, (*mutator).replayDir},
	{"put back", 3, (*mutator).putBack},
	{"replace", 4, (*mutator).replace},
}

// mutate changes the volume, and says how.
func (m *mutator) mutate() (what string, err error) {
	if m.names, err = files(m.dir); err != nil {
		return "", err
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	pick := m.rng.IntN(total)
	for _, k := range kinds {
		if pick -= k.weight; pick < 0 {
			name := m.pick()
			detail, err := k.do(m, name)
			return strings.TrimSpace(fmt.Sprintf("%s %s %s", k.name, name, detail)), err
		}
	}
	panic("unreachable")
}

// pick returns a file: the few of each directory as often as the many of another.
func (m *mutator) pick() string {
	class := m.names[m.rng.IntN(len(m.names))]
	if m.rng.IntN(10) > 0 {
		class = []string{"kmsfs.json", "meta/", "meta/", "meta/", "journal/", "journal/", "objects/"}[m.rng.IntN(7)]
	}
	var of []string
	for _, name := range m.names {
		if strings.HasPrefix(name, class) {
			of = append(of, name)
		}
	}
	if len(of) == 0 {
		of = m.names
	}
	return of[m.rng.IntN(len(of))]
}

func (m *mutator) path(name string) string { return filepath.Join(m.dir, name) }

// edit reads a file's used part, has it changed, and writes it back. An empty file gets a byte, so that there is something to change.
func (m *mutator) edit(name string, change func(b []byte) ([]byte, string)) (string, error) {
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		return "", err
	}
	size := len(b)
	used := len(strings.TrimRight(string(b), "\x00"))
	if m.rng.IntN(20) > 0 && used > 0 { // mostly where something is
		b = b[:used]
	}
	if len(b) == 0 {
		b = []byte{0}
	}
	out, what := change(b)
	return what, m.write(name, out, size)
}

// write replaces a file's content; what lies behind, up to size, stays a hole.
func (m *mutator) write(name string, b []byte, size int) error {
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && size > len(b) {
		err = f.Truncate(int64(size))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (m *mutator) flip(name string) (string, error) {
	return m.edit(name, func(b []byte) ([]byte, string) {
		at, x := m.rng.IntN(len(b)), byte(1+m.rng.IntN(255))
		if m.rng.IntN(2) == 0 {
			x = 1 << m.rng.IntN(8)
		}
		b[at] ^= x
		return b, fmt.Sprintf("at %d of %d by %#x", at, len(b), x)
	})
}

// span returns a random part of a file of n bytes.
func (m *mutator) span(n int) (lo, hi int) {
	lo = m.rng.IntN(n)
	return lo, lo + 1 + m.rng.IntN(min(n-lo, 1<<m.rng.IntN(14)))
}

func (m *mutator) garbage(name string) (string, error) {
	return m.edit(name, func(b []byte) ([]byte, string) {
		lo, hi := m.span(len(b))
		for i := lo; i < hi; i++ {
			b[i] = byte(m.rng.Uint32())
		}
		return b, fmt.Sprintf("%d to %d of %d", lo, hi, len(b))
	})
}

func (m *mutator) zero(name string) (string, error) {
	return m.edit(name, func(b []byte) ([]byte, string) {
		lo, hi := m.span(len(b))
		clear(b[lo:hi])
		return b, fmt.Sprintf("%d to %d of %d", lo, hi, len(b))
	})
}

func (m *mutator) cut(name string) (string, error) {
	st, err := os.Stat(m.path(name))
	if err != nil || st.Size() == 0 {
		return "nothing", err
	}
	size := m.rng.Int64N(st.Size())
	switch m.rng.IntN(4) {
	case 0:
		size = 0
	case 1:
		size = st.Size() - 1
	}
	return fmt.Sprintf("to %d of %d", size, st.Size()), os.Truncate(m.path(name), size)
}

func (m *mutator) extend(name string) (string, error) {
	b := make([]byte, 1+m.rng.IntN(5000))
	zeros := m.rng.IntN(2) == 0
	for i := range b {
		if !zeros {
			b[i] = byte(m.rng.Uint32())
		}
	}
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return fmt.Sprintf("by %d bytes, zeros: %v", len(b), zeros), err
}

// shift removes some bytes, or doubles them.
func (m *mutator) shift(name string) (string, error) {
	return m.edit(name, func(b []byte) ([]byte, string) {
		lo, hi := m.span(len(b))
		if m.rng.IntN(2) == 0 {
			return slices.Delete(b, lo, hi), fmt.Sprintf("%d to %d of %d removed", lo, hi, len(b))
		}
		return slices.Insert(b, hi, b[lo:hi]...), fmt.Sprintf("%d to %d of %d doubled", lo, hi, len(b))
	})
}

func (m *mutator) remove(name string) (string, error) {
	if m.rng.IntN(8) == 0 {
		dir := filepath.Dir(name)
		return "and all of " + dir, m.removeDir(dir)
	}
	return "", os.Remove(m.path(name))
}

func (m *mutator) removeDir(dir string) error {
	if dir == "." {
		return os.Remove(m.path("kmsfs.json"))
	}
	return os.RemoveAll(m.path(dir))
}

// other returns another file, mostly of the same kind.
func (m *mutator) other(name string) string {
	var of []string
	for _, n := range m.names {
		if n != name && strings.Split(n, "/")[0] == strings.Split(name, "/")[0] && filepath.Ext(n) == filepath.Ext(name) {
			of = append(of, n)
		}
	}
	if len(of) == 0 || m.rng.IntN(5) == 0 {
		return m.names[m.rng.IntN(len(m.names))]
	}
	return of[m.rng.IntN(len(of))]
}

func (m *mutator) swap(name string) (string, error) {
	b := m.other(name)
	if b == name {
		return "with itself", nil
	}
	for _, step := range [][2]string{{name, "swap"}, {b, name}, {"swap", b}} {
		if err := os.Rename(m.path(step[0]), m.path(step[1])); err != nil {
			return "", err
		}
	}
	return "with " + b, nil
}

func (m *mutator) copyOver(name string) (string, error) {
	b := m.other(name)
	if b == name {
		return "over itself", nil
	}
	return "over " + b, copyFile(m.path(name), m.path(b))
}

func (m *mutator) olderDir() string { return m.older[m.rng.IntN(len(m.older))] }

func (m *mutator) replay(name string) (string, error) {
	older := m.olderDir()
	from := filepath.Join(older, name)
	if _, err := os.Stat(from); err != nil {
		return "not there then", nil
	}
	return "of " + filepath.Base(older), copyFile(from, m.path(name))
}

func (m *mutator) replayDir(name string) (string, error) {
	dir, older := strings.Split(name, "/")[0], m.olderDir()
	if dir == name {
		return m.replay(name)
	}
	if err := os.RemoveAll(m.path(dir)); err != nil {
		return "", err
	}
	return fmt.Sprintf("all of %s of %s", dir, filepath.Base(older)), copyTree(filepath.Join(older, dir), m.path(dir))
}

// putBack puts back a file that is not there any more.
func (m *mutator) putBack(string) (string, error) {
	older := m.olderDir()
	names, err := files(older)
	if err != nil {
		return "", err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(m.names, n) })
	if len(names) == 0 {
		return "nothing", nil
	}
	name := names[m.rng.IntN(len(names))]
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o700); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s of %s", name, filepath.Base(older)), copyFile(filepath.Join(older, name), m.path(name))
}

// replace puts something in a file's place that is no file.
func (m *mutator) replace(name string) (string, error) {
	path := m.path(name)
	if m.rng.IntN(6) == 0 {
		return "gets a second link", os.Link(path, m.path("second-link"))
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		return "", err
	}
	switch m.rng.IntN(5) {
	case 0:
		return "by a link to it", os.Symlink(path+".moved", path)
	case 1:
		return "by a link to nothing", os.Symlink("/nonexistent", path)
	case 2:
		return "by a pipe", unix.Mkfifo(path, 0o600)
	case 3:
		return "by a socket", unix.Mknod(path, unix.S_IFSOCK|0o600, 0)
	default:
		return "by a directory", os.Mkdir(path, 0o700)
	}
}
