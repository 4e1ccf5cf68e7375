package transfer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/transfer"
)

var bg = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a source, a target, and what a run said.
type rig struct {
	t        *testing.T
	cfg      transfer.Config
	issues   []transfer.Issue
	src, dst string
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	r := &rig{t: t, src: filepath.Join(dir, "src"), dst: filepath.Join(dir, "dst")}
	must(t, os.Mkdir(r.src, 0o755))
	must(t, os.Mkdir(r.dst, 0o755))
	r.cfg = transfer.Config{
		Source: r.src, Target: r.dst, RootAttributes: true, Sync: func(context.Context) error { return nil },
		Issue: func(i transfer.Issue) error { r.issues = append(r.issues, i); return nil },
	}
	return r
}

func (r *rig) run() transfer.Summary {
	r.t.Helper()
	r.issues = nil
	sum, err := transfer.Run(bg, r.cfg)
	must(r.t, err)
	if int(sum.Issues) != len(r.issues) {
		r.t.Errorf("%d issues counted, %d told", sum.Issues, len(r.issues))
	}
	return sum
}

// clean is run without an issue.
func (r *rig) clean() transfer.Summary {
	r.t.Helper()
	sum := r.run()
	if len(r.issues) > 0 {
		r.t.Errorf("%+v", r.issues)
	}
	return sum
}

func (r *rig) write(path string, size int) []byte {
	r.t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(len(path))}).Read(b)
	must(r.t, os.MkdirAll(filepath.Dir(filepath.Join(r.src, path)), 0o755))
	must(r.t, os.WriteFile(filepath.Join(r.src, path), b, 0o644))
	return b
}

// acl is a POSIX ACL as its extended attribute holds it (include/uapi/linux/posix_acl_xattr.h): the owner rw, user 1234 r, group r, mask rw, others none.
func acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, 0xffffffff}, {2, 4, 1234}, {4, 4, 0xffffffff}, {0x10, 6, 0xffffffff}, {0x20, 0, 0xffffffff}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// scene makes one of everything.
func (r *rig) scene() {
	t, at := r.t, func(name string) string { return filepath.Join(r.src, name) }
	r.write("plain", 10_000)
	r.write("empty", 0)
	r.write("sub/deep/er/large", 3<<20+17)
	r.write("sub/readonly", 100)
	sparse, err := os.Create(at("sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("here"), 5<<20)
	must(t, errors.Join(err, sparse.Truncate(64<<20), sparse.Close()))
	must(t, os.Link(at("plain"), at("sub/again")))
	must(t, os.Link(at("plain"), at("zz")))
	must(t, os.Symlink("/no/such\nplace", at("dangling")))
	must(t, os.Symlink("sub", at("loop")))
	must(t, unix.Mkfifo(at("pipe"), 0o640))
	must(t, unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	must(t, os.Mkdir(at("void"), 0o711))
	must(t, os.WriteFile(at("odd name\xff\n"), []byte("x"), 0o600))
	must(t, unix.Setxattr(at("sub/readonly"), "user.colour", []byte("blue\x00"), 0))
	must(t, unix.Setxattr(at("void"), "user.empty", nil, 0))
	must(t, unix.Setxattr(at("sub/deep/er/large"), "system.posix_acl_access", acl(), 0))
	must(t, unix.Setxattr(at("sub/deep"), "system.posix_acl_default", acl(), 0))
	must(t, os.Chmod(at("sub/readonly"), 0o444))
	must(t, os.Chmod(at("empty"), 0o4755))
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(at("device"), unix.S_IFCHR|0o660, int(unix.Mkdev(1, 3))))
		must(t, unix.Lchown(at("dangling"), 1001, 1002))
		must(t, unix.Lchown(at("sub/again"), 1003, 1004))
		must(t, unix.Setxattr(at("zz"), "trusted.note", []byte("t"), 0))
	}
	n := int64(0)
	must(t, filepath.WalkDir(r.src, func(path string, _ fs.DirEntry, err error) error {
		n++
		ts := []unix.Timespec{{Sec: 1_500_000_000 + n, Nsec: 987_654_321 - n}, {Sec: 1_400_000_000 + n, Nsec: 123_456_789 + n}}
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
	}))
	must(t, os.Chmod(at("sub"), 0o555))
	t.Cleanup(func() { _, _ = os.Chmod(at("sub"), 0o755), os.Chmod(filepath.Join(r.dst, "sub"), 0o755) })
}

// describe says in lines all that there is of a tree, by other means than the package's.
func describe(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	names := map[uint64]string{}
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		rel, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		l := fmt.Sprintf("%q mode %o owner %d:%d mtime %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			l += fmt.Sprintf(" size %d links %d rdev %d", st.Size, st.Nlink, st.Rdev)
			if names[st.Ino] == "" {
				names[st.Ino] = rel
			}
			l += " as " + names[st.Ino]
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			must(t, err)
			l += fmt.Sprintf(" to %q", to)
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			must(t, err)
			l += fmt.Sprintf(" content %x", crc(b))
		}
		lines = append(lines, l+xattrs(t, path))
		return nil
	}))
	return lines
}

func crc(b []byte) uint64 {
	sum := uint64(14695981039346656037)
	for _, c := range b {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return sum
}

func xattrs(t testing.TB, path string) (text string) {
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) {
		return ""
	}
	must(t, err)
	names := strings.Split(string(list[:n]), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" || strings.HasPrefix(name, "security.selinux") {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		must(t, err)
		text += fmt.Sprintf(" %s=%x", name, value[:n])
	}
	return text
}

func (r *rig) same(when string) {
	r.t.Helper()
	a, b := describe(r.t, r.src), describe(r.t, r.dst)
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			r.t.Fatalf("%s:\nsource %s\ntarget %s", when, x, y)
		}
	}
}

// TestTree: everything is carried over, holes included, and a second run has nothing to do.
func TestTree(t *testing.T) {
	r := newRig(t)
	r.scene()
	var phases []string
	r.cfg.Progress = func(p transfer.Progress) {
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		if p.Phase != transfer.Counting && (p.Bytes > p.TotalBytes || p.Files > p.TotalFiles) {
			t.Errorf("%+v", p)
		}
	}
	sum := r.clean()
	r.same("after the first run")
	if sum.Files != 6 || sum.Links != 2 || sum.Symlinks != 2 || sum.Copied != 6 || sum.Directories != 5 || sum.Bytes > 5<<20 {
		t.Errorf("%+v", sum)
	}
	if want := []string{transfer.Counting, transfer.Copying, transfer.Verifying}; !slices.Equal(phases, want) {
		t.Errorf("phases %v", phases)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(r.dst, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file takes %d bytes", st.Blocks*512)
	}
	again := r.clean()
	r.same("after the second run")
	if again.Copied != 0 || again.Bytes != 0 || again.Verified != sum.Verified || again.Files != sum.Files {
		t.Errorf("the second run: %+v", again)
	}
}

// TestGoesOn ends runs at random points, in both passes, and goes on: nothing but what was not complete is copied twice.
func TestGoesOn(t *testing.T) {
	r := newRig(t)
	r.scene()
	for i := range 20 {
		r.write(fmt.Sprintf("many/f%02d", i), 200_000+i)
	}
	r.write("many/huge", 70<<20)
	rng := rand.New(rand.NewPCG(1, 4))
	stops, copied, resumed := 0, uint64(0), uint64(0)
	for {
		ctx, cancel := context.WithCancel(bg)
		left := 1 + rng.IntN(250)
		cfg := r.cfg
		cfg.Progress = func(p transfer.Progress) {
			if left--; left == 0 && stops > 0 || stops == 0 && p.Phase == transfer.Copying && p.Bytes > 70<<20 { // first in the huge one
				cancel()
			}
		}
		sum, err := transfer.Run(ctx, cfg)
		cancel()
		copied, resumed = copied+sum.Copied, resumed+sum.Resumed
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if stops++; stops > 500 {
			t.Fatal("it does not come to an end")
		}
	}
	r.same("in the end")
	if len(r.issues) > 0 || copied != 27 || stops < 3 || resumed == 0 {
		t.Errorf("%d stops, %d files copied, %d bytes resumed, %+v", stops, copied, resumed, r.issues)
	}
	if left, _ := filepath.Glob(filepath.Join(r.dst, "*", ".kmsfs*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestRepair: what a power cut has taken from a copy that had its name is noticed by the comparison, and copied again.
func TestRepair(t *testing.T) {
	r := newRig(t)
	r.write("a", 100_000)
	r.write("b", 100_000)
	r.cfg.Sync = func(context.Context) error {
		for _, name := range []string{"a", "b"} {
			path := filepath.Join(r.dst, name)
			var st unix.Stat_t
			must(t, unix.Stat(path, &st))
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			if name == "a" {
				_, err = f.WriteAt(make([]byte, 4096), 8192)
			} else {
				err = f.Truncate(5000)
			}
			must(t, errors.Join(err, f.Close()))
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0))
		}
		r.cfg.Sync = nil
		return nil
	}
	calls, sync := 0, r.cfg.Sync
	r.cfg.Sync = func(ctx context.Context) error {
		if calls++; calls == 1 {
			return sync(ctx)
		}
		return nil
	}
	if sum := r.clean(); sum.Repaired != 2 || calls != 2 {
		t.Errorf("%+v, %d syncs", sum, calls)
	}
	r.same("after the repair")
}

// TestChanges: a file that changes while it is read is read again; one that does not stop has no copy and is reported, as is what changes later.
func TestChanges(t *testing.T) {
	r := newRig(t)
	r.write("always", 5<<20)
	r.write("b-once", 5<<20)
	r.write("c-later", 100)
	r.write("d-goes", 100)
	poke := func(name string, at int64) {
		f, err := os.OpenFile(filepath.Join(r.src, name), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte(fmt.Sprint(at)), at)
		must(t, errors.Join(err, f.Close()))
	}
	pokes, once := int64(0), false
	r.cfg.Progress = func(p transfer.Progress) {
		if p.Phase != transfer.Copying {
			return
		}
		if pokes++; p.Files == 0 && p.Bytes > 0 {
			poke("always", pokes)
		} else if p.Files == 1 && p.Bytes > 7<<20 && !once {
			once = true
			poke("b-once", 7)
		}
	}
	r.cfg.Sync = func(context.Context) error {
		poke("c-later", 3)
		return os.Remove(filepath.Join(r.src, "d-goes"))
	}
	r.run()
	want := map[string]string{"always": transfer.Changed, "c-later": transfer.Changed}
	for _, i := range r.issues {
		if want[i.Path] != i.Kind {
			t.Errorf("%+v", i)
		}
		delete(want, i.Path)
	}
	if len(want) > 0 || !once {
		t.Errorf("not reported: %v", want)
	}
	if _, err := os.Stat(filepath.Join(r.dst, "always")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a mixed copy: %v", err)
	}
	a, _ := os.ReadFile(filepath.Join(r.src, "b-once"))
	b, _ := os.ReadFile(filepath.Join(r.dst, "b-once"))
	if !bytes.Equal(a, b) {
		t.Error("b-once differs")
	}
	r.cfg.Progress, r.cfg.Sync = nil, func(context.Context) error { return nil }
	r.run()
	if len(r.issues) != 1 || r.issues[0].Path != "c-later" || r.issues[0].Kind != transfer.Conflict {
		t.Errorf("the next run: %+v", r.issues)
	}
	r.cfg.Update = true
	must(t, os.Remove(filepath.Join(r.dst, "d-goes")))
	r.clean()
	r.same("after an update")
}
