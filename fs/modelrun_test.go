package fs_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// modelRuns and modelSteps make more than 10,000 operations.
const (
	modelRuns  = 150
	modelSteps = 100
)

// TestModel does random operations on a mount and on a model in memory: results must agree after each, the trees at the end, and again after a remount.
func TestModel(t *testing.T) {
	setRapid(t, "rapid.checks", modelRuns)
	setRapid(t, "rapid.steps", modelSteps)
	m := fstest.NewMount(t, fstest.Options{})
	syscall.Umask(0o022)
	trees := map[string]*modelTree{}
	rapid.Check(t, func(rt *rapid.T) {
		name := fmt.Sprintf("run-%d", len(trees))
		r := &modelRun{base: m.Path(name), tree: newModelTree()}
		if err := os.Mkdir(r.base, 0o755); err != nil {
			rt.Fatal(err)
		}
		trees[name] = r.tree
		defer r.closeAll()
		rt.Repeat(r.actions())
		r.compare(rt)
	})
	if t.Failed() {
		return
	}
	m.Remount()
	for name, tree := range trees {
		r := &modelRun{base: m.Path(name), tree: tree}
		r.compare(t)
	}
	m.Check()
}

func setRapid(t *testing.T, name string, value int) {
	t.Helper()
	f := flag.Lookup(name)
	old := f.Value.String()
	if err := f.Value.Set(fmt.Sprint(value)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(old) })
}

// modelRun is a directory and the model of it.
type modelRun struct {
	base string
	tree *modelTree
	open []openFile
}

// openFile is a file that is held open, whatever happens to its names.
type openFile struct {
	file *os.File
	node *modelNode
}

// failer is what *testing.T and *rapid.T have in common here.
type failer interface {
	Fatalf(format string, args ...any)
}

func (r *modelRun) real(p string) string { return filepath.Join(r.base, p) }

func (r *modelRun) closeAll() {
	for _, o := range r.open {
		o.file.Close()
	}
	r.open = nil
}

// same fails unless an operation ended as the model says.
func same(t failer, what string, err error, want syscall.Errno) {
	var got syscall.Errno
	if err != nil && !errors.As(err, &got) {
		t.Fatalf("%s: %v is no errno", what, err)
	}
	if got != want {
		t.Fatalf("%s: %v, the model says %v", what, got, want)
	}
}

var (
	modelName   = rapid.SampledFrom([]string{"a", "b", "c", "ü d"})
	modelOffset = rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(4000, 4200), rapid.IntRange(0, 50_000))
	modelData   = rapid.Custom(func(t *rapid.T) []byte {
		n := rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(4000, 4200), rapid.IntRange(1, 20_000)).Draw(t, "length")
		b := make([]byte, n)
		fill := byte(rapid.IntRange(1, 255).Draw(t, "fill"))
		for i := range b {
			b[i] = fill + byte(i>>8)
		}
		return b
	})
	modelXattr = rapid.SampledFrom([]string{"user.one", "user.two", "trusted.three"})
)

func (r *modelRun) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"create": r.create, "mkdir": r.mkdir, "symlink": r.symlink, "unlink": r.unlink, "rmdir": r.rmdir, "link": r.link, "rename": r.rename, "rename again": r.rename,
		"write": r.write, "write more": r.write, "truncate": r.truncate, "punch": r.punch, "chmod": r.chmod, "read": r.read, "hold": r.hold,
		"write held": r.writeHeld, "let go": r.letGo, "set xattr": r.setXattr, "remove xattr": r.removeXattr, "list": r.list, "fsync": r.fsync,
	}
}

// path draws a path: most often one that exists, or a name in a directory that does.
func (r *modelRun) path(t *rapid.T, label string) string {
	var all, dirs []string
	r.tree.each(func(p string, n *modelNode) {
		if p != "." {
			all = append(all, p)
		}
		if n.isDir() && strings.Count(p, "/") < 3 {
			dirs = append(dirs, p)
		}
	})
	kind := rapid.SampledFrom([]string{"old", "old", "old", "old", "old", "old", "name", "any"}).Draw(t, label+" kind")
	if label == "new" {
		kind = rapid.SampledFrom([]string{"name", "name", "name", "name", "old", "any"}).Draw(t, label+" kind")
	}
	switch {
	case kind == "old" && len(all) > 0:
		return rapid.SampledFrom(all).Draw(t, label)
	case kind == "any":
		return path.Join(modelName.Draw(t, label), modelName.Draw(t, label+" name"), modelName.Draw(t, label+" last"))
	default:
		return path.Join(rapid.SampledFrom(dirs).Draw(t, label), modelName.Draw(t, label+" name"))
	}
}

func (r *modelRun) create(t *rapid.T) {
	p, mode := r.path(t, "new"), rapid.Uint32Range(0, 0o777).Draw(t, "mode")
	fd, err := unix.Open(r.real(p), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err == nil {
		unix.Close(fd)
	}
	same(t, "create "+p, err, r.tree.add(p, newModelFile(mode&^0o022)))
}

func (r *modelRun) mkdir(t *rapid.T) {
	p, mode := r.path(t, "new"), 0o700|rapid.Uint32Range(0, 0o077).Draw(t, "mode")
	same(t, "mkdir "+p, unix.Mkdir(r.real(p), mode), r.tree.add(p, newModelDir(mode&^0o022)))
}

func (r *modelRun) symlink(t *rapid.T) {
	p, target := r.path(t, "new"), "/nowhere/"+rapid.StringN(1, 20, 200).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }).Draw(t, "target")
	same(t, "symlink "+p, unix.Symlink(target, r.real(p)), r.tree.add(p, &modelNode{target: target, mode: 0o777, nlink: 1}))
}

func (r *modelRun) unlink(t *rapid.T) {
	p := r.path(t, "p")
	same(t, "unlink "+p, unix.Unlink(r.real(p)), r.tree.unlink(p))
}

func (r *modelRun) rmdir(t *rapid.T) {
	p := r.path(t, "p")
	same(t, "rmdir "+p, unix.Rmdir(r.real(p)), r.tree.rmdir(p))
}

func (r *modelRun) link(t *rapid.T) {
	from, to := r.path(t, "from"), r.path(t, "new")
	same(t, "link "+from+" "+to, unix.Link(r.real(from), r.real(to)), r.tree.link(from, to))
}

func (r *modelRun) rename(t *rapid.T) {
	from, to := r.path(t, "from"), r.path(t, rapid.SampledFrom([]string{"to", "new"}).Draw(t, "onto"))
	flags := rapid.SampledFrom([]uint{0, 0, renameNoReplace, renameExchange}).Draw(t, "flags")
	err := unix.Renameat2(unix.AT_FDCWD, r.real(from), unix.AT_FDCWD, r.real(to), flags)
	same(t, fmt.Sprintf("rename %s %s %d", from, to, flags), err, r.tree.rename(from, to, flags))
}

func (r *modelRun) write(t *rapid.T) {
	p, off, b := r.path(t, "p"), modelOffset.Draw(t, "off"), modelData.Draw(t, "data")
	n, want := r.tree.file(p)
	f, err := os.OpenFile(r.real(p), os.O_WRONLY, 0)
	same(t, "open "+p, err, want)
	if want != 0 {
		return
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(off)); err != nil {
		t.Fatalf("write %s: %v", p, err)
	}
	n.write(off, b)
}

func (r *modelRun) truncate(t *rapid.T) {
	p, size := r.path(t, "p"), modelOffset.Draw(t, "size")
	n, want := r.tree.file(p)
	same(t, "truncate "+p, unix.Truncate(r.real(p), int64(size)), want)
	if want == 0 {
		n.resize(size)
	}
}

func (r *modelRun) punch(t *rapid.T) {
	p, off, n := r.path(t, "p"), modelOffset.Draw(t, "off"), rapid.IntRange(1, 20_000).Draw(t, "n")
	node, want := r.tree.file(p)
	fd, err := unix.Open(r.real(p), unix.O_RDWR|unix.O_CLOEXEC, 0)
	same(t, "open "+p, err, want)
	if want != 0 {
		return
	}
	defer unix.Close(fd)
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)); err != nil {
		t.Fatalf("punch %s: %v", p, err)
	}
	if off < len(node.data) {
		clear(node.data[off:min(off+n, len(node.data))])
	}
}

func (r *modelRun) chmod(t *rapid.T) {
	p, mode := r.path(t, "p"), rapid.Uint32Range(0, 0o7777).Draw(t, "mode")
	n, want := r.tree.walk(p)
	if want == 0 && n.isLink() {
		want = syscall.ENOENT
	}
	same(t, "chmod "+p, unix.Chmod(r.real(p), mode), want)
	if want == 0 {
		n.mode = mode
	}
}

func (r *modelRun) read(t *rapid.T) {
	p := r.path(t, "p")
	n, want := r.tree.file(p)
	got, err := os.ReadFile(r.real(p))
	same(t, "read "+p, err, want)
	if want == 0 {
		if err := sameBytes(got, n.data); err != nil {
			t.Fatalf("read %s: %v", p, err)
		}
	}
}

func (r *modelRun) hold(t *rapid.T) {
	p := r.path(t, "p")
	n, want := r.tree.file(p)
	f, err := os.OpenFile(r.real(p), os.O_RDWR, 0)
	same(t, "open "+p, err, want)
	if want == 0 {
		r.open = append(r.open, openFile{f, n})
	}
}

func (r *modelRun) writeHeld(t *rapid.T) {
	if len(r.open) == 0 {
		t.Skip("nothing is open")
	}
	o := r.open[rapid.IntRange(0, len(r.open)-1).Draw(t, "which")]
	off, b := modelOffset.Draw(t, "off"), modelData.Draw(t, "data")
	if _, err := o.file.WriteAt(b, int64(off)); err != nil {
		t.Fatalf("write to an open file: %v", err)
	}
	o.node.write(off, b)
	checkHeld(t, o)
}

func checkHeld(t failer, o openFile) {
	got := make([]byte, len(o.node.data)+1)
	n, err := unix.Pread(int(o.file.Fd()), got, 0)
	if err != nil {
		t.Fatalf("read an open file: %v", err)
	}
	if err := sameBytes(got[:n], o.node.data); err != nil {
		t.Fatalf("open file: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(o.file.Fd()), &st); err != nil || int(st.Nlink) != o.node.nlink || int(st.Size) != len(o.node.data) {
		t.Fatalf("open file: %d links, %d bytes (%v), the model says %d and %d", st.Nlink, st.Size, err, o.node.nlink, len(o.node.data))
	}
}

func (r *modelRun) letGo(t *rapid.T) {
	if len(r.open) == 0 {
		t.Skip("nothing is open")
	}
	i := rapid.IntRange(0, len(r.open)-1).Draw(t, "which")
	checkHeld(t, r.open[i])
	if err := r.open[i].file.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	r.open = append(r.open[:i], r.open[i+1:]...)
}

func (r *modelRun) setXattr(t *rapid.T) {
	p, name, value := r.path(t, "p"), modelXattr.Draw(t, "name"), rapid.StringN(0, 50, 500).Draw(t, "value")
	n, want := r.tree.walk(p)
	if want == 0 && n.isLink() {
		want = syscall.ENOENT
	}
	same(t, "setxattr "+p, unix.Setxattr(r.real(p), name, []byte(value), 0), want)
	if want == 0 {
		n.xattrs[name] = value
	}
}

func (r *modelRun) removeXattr(t *rapid.T) {
	p, name := r.path(t, "p"), modelXattr.Draw(t, "name")
	n, want := r.tree.walk(p)
	if want == 0 && n.isLink() {
		want = syscall.ENOENT
	}
	if want == 0 {
		if _, ok := n.xattrs[name]; !ok {
			want = syscall.ENODATA
		}
	}
	same(t, "removexattr "+p, unix.Removexattr(r.real(p), name), want)
	if want == 0 {
		delete(n.xattrs, name)
	}
}

func (r *modelRun) list(t *rapid.T) {
	p := r.path(t, "p")
	n, want := r.tree.walk(p)
	if want != 0 || !n.isDir() {
		t.Skip("no directory")
	}
	r.compareDir(t, p, n)
}

func (r *modelRun) fsync(t *rapid.T) {
	p := r.path(t, "p")
	n, want := r.tree.walk(p)
	if want != 0 || n.isLink() {
		t.Skip("nothing to sync")
	}
	fd, err := unix.Open(r.real(p), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", p, err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil {
		t.Fatalf("fsync %s: %v", p, err)
	}
}

// compare compares the whole tree.
func (r *modelRun) compare(t failer) {
	for _, o := range r.open {
		checkHeld(t, o)
	}
	r.compareNode(t, ".", r.tree.root)
}

func (r *modelRun) compareNode(t failer, p string, n *modelNode) {
	var st unix.Stat_t
	if err := unix.Lstat(r.real(p), &st); err != nil {
		t.Fatalf("lstat %s: %v", p, err)
	}
	if st.Mode&0o7777 != n.mode || int(st.Nlink) != n.nlink {
		t.Fatalf("%s: mode %o and %d links, the model says %o and %d", p, st.Mode&0o7777, st.Nlink, n.mode, n.nlink)
	}
	switch {
	case n.isLink():
		target, err := os.Readlink(r.real(p))
		if err != nil || target != n.target || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			t.Fatalf("%s: link to %q (%v), the model says %q", p, target, err, n.target)
		}
		return
	case n.isFile():
		got, err := os.ReadFile(r.real(p))
		if err != nil {
			t.Fatalf("read %s: %v", p, err)
		}
		if err := sameBytes(got, n.data); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	default:
		r.compareDir(t, p, n)
		for name, child := range n.dir {
			r.compareNode(t, filepath.Join(p, name), child)
		}
	}
	r.compareXattrs(t, p, n)
}

func (r *modelRun) compareDir(t failer, p string, n *modelNode) {
	entries, err := os.ReadDir(r.real(p))
	if err != nil {
		t.Fatalf("list %s: %v", p, err)
	}
	var got, want []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	for name := range n.dir {
		want = append(want, name)
	}
	sort.Strings(want)
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("%s has %q, the model says %q", p, got, want)
	}
}

func (r *modelRun) compareXattrs(t failer, p string, n *modelNode) {
	buf := make([]byte, 4096)
	size, err := unix.Listxattr(r.real(p), buf)
	if err != nil {
		t.Fatalf("list xattrs of %s: %v", p, err)
	}
	names := strings.FieldsFunc(string(buf[:size]), func(c rune) bool { return c == 0 })
	if len(names) != len(n.xattrs) {
		t.Fatalf("%s has xattrs %q, the model says %q", p, names, n.xattrs)
	}
	for name, want := range n.xattrs {
		size, err := unix.Getxattr(r.real(p), name, buf)
		if err != nil || string(buf[:size]) != want {
			t.Fatalf("xattr %s of %s: %q (%v), the model says %q", name, p, buf[:max(size, 0)], err, want)
		}
	}
}
