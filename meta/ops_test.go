package meta_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

var bg = context.Background()

// tree is a volume with a few inodes that most tests use.
type tree struct {
	*metatest.Volume
	t *testing.T
}

func newTree(t *testing.T) *tree { return &tree{metatest.NewVolume(t), t} }

func (v *tree) mk(parent meta.Ino, name string, mode uint32) *meta.Attr {
	v.t.Helper()
	n := meta.NewNode{Mode: mode, UID: 1, GID: 2}
	if mode&meta.ModeType == meta.ModeSymlink {
		n.Target = []byte("target")
	}
	a, err := v.Create(bg, parent, []byte(name), n)
	if err != nil {
		v.t.Fatalf("create %q: %v", name, err)
	}
	return a
}

func (v *tree) file(parent meta.Ino, name string) *meta.Attr {
	return v.mk(parent, name, meta.ModeRegular|0o644)
}

func (v *tree) dir(parent meta.Ino, name string) *meta.Attr {
	return v.mk(parent, name, meta.ModeDir|0o755)
}

func (v *tree) attr(ino meta.Ino) *meta.Attr {
	v.t.Helper()
	a, err := v.Getattr(bg, ino)
	if err != nil {
		v.t.Fatalf("getattr %d: %v", ino, err)
	}
	return a
}

func (v *tree) clean() {
	v.t.Helper()
	checkClean(v.t, v.Store)
}

// want fails unless err matches the sentinel; nil wants success.
func want(t *testing.T, what string, err, sentinel error) {
	t.Helper()
	if sentinel == nil && err != nil || sentinel != nil && !errors.Is(err, sentinel) {
		t.Fatalf("%s: got %v, want %v", what, err, sentinel)
	}
}

func TestCreateAttributes(t *testing.T) {
	v := newTree(t)
	root := v.attr(meta.RootIno)
	for _, typ := range []uint32{meta.ModeRegular, meta.ModeDir, meta.ModeSymlink, meta.ModeFIFO, meta.ModeSocket, meta.ModeChar, meta.ModeBlock} {
		n := meta.NewNode{Mode: typ | 0o1751, UID: 7, GID: 8}
		switch typ {
		case meta.ModeSymlink:
			n.Target = []byte("x/y")
		case meta.ModeChar, meta.ModeBlock:
			n.Rdev = 0x1234
		}
		a, err := v.Create(bg, meta.RootIno, fmt.Append(nil, typ), n)
		want(t, "create", err, nil)
		if a.Mode != n.Mode || a.UID != 7 || a.GID != 8 || a.Rdev != n.Rdev || a.Zone != meta.RootZone || a.Parent != meta.RootIno {
			t.Errorf("type %#o: %+v", typ, a)
		}
		if a.Atime != a.Btime || a.Mtime != a.Btime || a.Ctime != a.Btime || a.Btime.Sec == 0 || a.Size != uint64(len(n.Target)) {
			t.Errorf("type %#o: times or size: %+v", typ, a)
		}
		if (typ == meta.ModeRegular) != (len(a.Wraps) == 1 && a.Layout == meta.LayoutInline && a.BlockSize == meta.DefaultBlockSize && a.Epoch == 1) {
			t.Errorf("type %#o: layout %d, %d wraps", typ, a.Layout, len(a.Wraps))
		}
		got, err := v.Open(t, meta.Config{}).Getattr(bg, a.Ino)
		if err != nil || got.Mode != a.Mode || got.Btime != a.Btime {
			t.Errorf("type %#o, read again: %+v, %v", typ, got, err)
		}
	}
	after := v.attr(meta.RootIno)
	if after.Nlink != 3 || after.Version <= root.Version || after.Mtime == root.Mtime || after.Ctime != after.Mtime || after.Atime != root.Atime {
		t.Errorf("directory: %+v, before %+v", after, root)
	}
	v.clean()
}

func TestCreateRefuses(t *testing.T) {
	v := newTree(t)
	f, d := v.file(meta.RootIno, "f"), v.dir(meta.RootIno, "d")
	gone := v.dir(meta.RootIno, "gone")
	_, err := v.Rmdir(bg, meta.RootIno, []byte("gone"), func(meta.Ino) bool { return true })
	want(t, "rmdir", err, nil)
	reg := meta.NewNode{Mode: meta.ModeRegular}
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		name   string
		parent meta.Ino
		file   string
		node   meta.NewNode
		err    error
	}{
		{"exists", 1, "f", reg, meta.ErrExist},
		{"directory exists", 1, "d", reg, meta.ErrExist},
		{"parent is a file", f.Ino, "x", reg, meta.ErrNotDir},
		{"no parent", 999, "x", reg, meta.ErrNotFound},
		{"parent was removed", gone.Ino, "x", reg, meta.ErrNotFound},
		{"long name", d.Ino, long, reg, meta.ErrNameTooLong},
		{"empty name", d.Ino, "", reg, meta.ErrBadName},
		{"dot", d.Ino, ".", reg, meta.ErrBadName},
		{"dot dot", d.Ino, "..", reg, meta.ErrBadName},
		{"slash", d.Ino, "a/b", reg, meta.ErrBadName},
		{"nul", d.Ino, "a\x00b", reg, meta.ErrBadName},
		{"no type", d.Ino, "x", meta.NewNode{Mode: 0o644}, meta.ErrInvalid},
		{"device number of a file", d.Ino, "x", meta.NewNode{Mode: meta.ModeRegular, Rdev: 1}, meta.ErrInvalid},
		{"block size", d.Ino, "x", meta.NewNode{Mode: meta.ModeRegular, Params: &meta.Params{BlockSize: 5000}}, meta.ErrInvalid},
		{"symlink without target", d.Ino, "x", meta.NewNode{Mode: meta.ModeSymlink}, meta.ErrInvalid},
		{"target of a file", d.Ino, "x", meta.NewNode{Mode: meta.ModeRegular, Target: []byte("x")}, meta.ErrInvalid},
		{"long target", d.Ino, "x", meta.NewNode{Mode: meta.ModeSymlink, Target: make([]byte, 4096)}, meta.ErrNameTooLong},
		{"xattr", d.Ino, "x", meta.NewNode{Mode: meta.ModeRegular, Xattrs: map[string][]byte{"user.a": make([]byte, 65537)}}, meta.ErrXattrTooBig},
		{"hook", d.Ino, "x", meta.NewNode{Mode: meta.ModeRegular, Inherit: func(*meta.Tx, *meta.Attr, *meta.NewNode) error { return meta.ErrNoSpace }}, meta.ErrNoSpace},
		{"hook changes the type", d.Ino, "x", meta.NewNode{Mode: meta.ModeRegular, Inherit: func(_ *meta.Tx, _ *meta.Attr, n *meta.NewNode) error { n.Mode = meta.ModeDir; return nil }}, meta.ErrInvalid},
	} {
		_, err := v.Create(bg, c.parent, []byte(c.file), c.node)
		want(t, c.name, err, c.err)
	}
	list, err := v.ReadDir(bg, d.Ino, 0, 10)
	if err != nil || len(list) != 0 {
		t.Fatalf("after refusals: %v, %v", list, err)
	}
	v.clean()
}

func TestNamesOfAllBytes(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, strings.Repeat("\xff", 255))
	for c := 1; c < 256; c++ {
		if c != '/' && c != '.' {
			v.file(d.Ino, string([]byte{byte(c)}))
		}
	}
	seen := map[string]bool{}
	var cookie uint64
	for {
		list, err := v.ReadDir(bg, d.Ino, cookie, 7)
		want(t, "readdir", err, nil)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			if seen[string(e.Name)] {
				t.Fatalf("%q twice", e.Name)
			}
			seen[string(e.Name)] = true
		}
		cookie = list[len(list)-1].Cookie
	}
	if len(seen) != 253 {
		t.Fatalf("%d names", len(seen))
	}
}

func TestSetgid(t *testing.T) {
	v := newTree(t)
	d := v.mk(meta.RootIno, "d", meta.ModeDir|meta.ModeSetGID|0o755)
	f, sub := v.file(d.Ino, "f"), v.mk(d.Ino, "sub", meta.ModeDir|0o700)
	if _, err := v.SetAttr(bg, d.Ino, func(a *meta.Attr) error { a.GID = 55; return nil }); err != nil {
		t.Fatal(err)
	}
	n, err := v.Create(bg, d.Ino, []byte("n"), meta.NewNode{Mode: meta.ModeRegular, GID: 9})
	want(t, "create", err, nil)
	if f.GID != 2 || f.Mode&meta.ModeSetGID != 0 || sub.Mode&meta.ModeSetGID == 0 || n.GID != 55 {
		t.Fatalf("file %+v, directory %+v, later %+v", f, sub, n)
	}
}

func TestInheritHook(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	want(t, "set", v.SetXattr(bg, d.Ino, meta.XattrACLDefault, []byte("acl"), 0), nil)
	a, err := v.Create(bg, d.Ino, []byte("f"), meta.NewNode{Mode: meta.ModeRegular | 0o666, Xattrs: map[string][]byte{"user.x": nil},
		Inherit: func(tx *meta.Tx, dir *meta.Attr, n *meta.NewNode) error {
			acl, err := tx.Xattr(dir.Ino, meta.XattrACLDefault)
			n.Mode = meta.ModeRegular | 0o640
			n.Xattrs = map[string][]byte{meta.XattrACLAccess: acl}
			return err
		}})
	want(t, "create", err, nil)
	got, err := v.GetXattr(bg, a.Ino, meta.XattrACLAccess)
	if err != nil || string(got) != "acl" || a.Mode&0o777 != 0o640 || !a.Flags.HasACL() {
		t.Fatalf("%+v, %q, %v", a, got, err)
	}
	v.clean()
}

func TestLookup(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	f := v.file(d.Ino, "f")
	for _, c := range []struct {
		parent meta.Ino
		name   string
		ino    meta.Ino
		err    error
	}{
		{1, "d", d.Ino, nil}, {d.Ino, "f", f.Ino, nil}, {d.Ino, ".", d.Ino, nil}, {d.Ino, "..", 1, nil}, {1, "..", 1, nil}, {1, ".", 1, nil},
		{1, "f", 0, meta.ErrNotFound}, {f.Ino, "x", 0, meta.ErrNotDir}, {f.Ino, ".", 0, meta.ErrNotDir}, {77, "x", 0, meta.ErrNotFound},
		{1, strings.Repeat("x", 256), 0, meta.ErrNameTooLong}, {1, "", 0, meta.ErrBadName},
	} {
		for _, s := range []*meta.Store{v.Store, v.Open(t, meta.Config{}), v.Open(t, meta.Config{CacheRows: -1})} {
			a, err := s.Lookup(bg, c.parent, []byte(c.name))
			want(t, fmt.Sprintf("%d %q", c.parent, c.name), err, c.err)
			if err == nil && a.Ino != c.ino {
				t.Errorf("%d %q: inode %d, want %d", c.parent, c.name, a.Ino, c.ino)
			}
		}
	}
}

func TestReturnedAttrIsPrivate(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	for range 2 {
		for _, get := range []func() (*meta.Attr, error){
			func() (*meta.Attr, error) { return v.Getattr(bg, f.Ino) },
			func() (*meta.Attr, error) { return v.Lookup(bg, 1, []byte("f")) },
		} {
			a, err := get()
			want(t, "get", err, nil)
			if a.Size != 0 || a.Wraps[0].Uses != 0 {
				t.Fatal("somebody else's change is seen")
			}
			a.Size, a.Wraps[0].Uses = 5, 5
		}
	}
}

func TestSetAttr(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	a, err := v.SetAttr(bg, f.Ino, func(a *meta.Attr) error { a.Mode = meta.ModeRegular | 0o4711; a.UID = 3; return nil })
	want(t, "chmod", err, nil)
	if a.Mode&0o7777 != 0o4711 || a.UID != 3 || a.Ctime == f.Ctime || a.Mtime != f.Mtime || a.Version != f.Version+1 {
		t.Fatalf("%+v", a)
	}
	when := meta.Time{Sec: 1, Nsec: 2}
	a, err = v.SetAttr(bg, f.Ino, func(a *meta.Attr) error { a.Ctime, a.Mtime = when, when; return nil })
	if err != nil || a.Ctime != when || a.Mtime != when {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, c := range []struct {
		name   string
		change func(*meta.Attr)
		err    error
	}{
		{"type", func(a *meta.Attr) { a.Mode = meta.ModeDir }, meta.ErrInvalid},
		{"links", func(a *meta.Attr) { a.Nlink++ }, meta.ErrInvalid},
		{"place", func(a *meta.Attr) { a.Parent = 9 }, meta.ErrInvalid},
		{"tag", func(a *meta.Attr) { a.Tag[0]++ }, meta.ErrInvalid},
		{"zone", func(a *meta.Attr) { a.Zone++ }, meta.ErrInvalid},
		{"flags", func(a *meta.Attr) { a.Flags |= meta.FlagOrphan }, meta.ErrInvalid},
		{"wrap", func(a *meta.Attr) { a.Wraps[0].Wrapped[0]++ }, meta.ErrInvalid},
		{"no wraps", func(a *meta.Attr) { a.Wraps = nil }, meta.ErrInvalid},
		{"version", func(a *meta.Attr) { a.Version-- }, meta.ErrStale},
		{"mode bits", func(a *meta.Attr) { a.Mode |= 1 << 20 }, meta.ErrInvalid},
		{"size", func(a *meta.Attr) { a.Size = 1 << 63 }, meta.ErrInvalid},
		{"allocated inline", func(a *meta.Attr) { a.Allocated = 1 }, meta.ErrInvalid},
	} {
		_, err := v.SetAttr(bg, f.Ino, func(a *meta.Attr) error { c.change(a); return nil })
		want(t, c.name, err, c.err)
	}
	_, err = v.SetAttr(bg, f.Ino, func(*meta.Attr) error { return meta.ErrNoSpace })
	want(t, "fn's error", err, meta.ErrNoSpace)
	_, err = v.SetAttr(bg, 99, func(*meta.Attr) error { return nil })
	want(t, "no inode", err, meta.ErrNotFound)
}

func TestStaleAttrIsRefused(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	_, err := v.Rename(bg, 1, []byte("f"), 1, []byte("g"), 0, nil)
	want(t, "rename", err, nil)
	_, err = v.Update(bg, func(tx *meta.Tx) error { f.Size = 1; return tx.PutAttr(f) })
	want(t, "put an old copy", err, meta.ErrStale)
	_, err = v.Update(bg, func(tx *meta.Tx) error {
		a, err := tx.Attr(f.Ino)
		if err != nil {
			return err
		}
		b := a.Clone()
		a.Size = 1
		if err := tx.PutAttr(a); err != nil {
			return err
		}
		a.Size = 2
		if err := tx.PutAttr(a); err != nil {
			return err
		}
		return tx.PutAttr(b)
	})
	want(t, "put the older of two copies", err, meta.ErrStale)
	if a := v.attr(f.Ino); a.Size != 0 {
		t.Fatalf("size %d", a.Size)
	}
}

func TestReadOnlyTx(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	err := v.View(bg, func(tx *meta.Tx) error {
		a, err := tx.Attr(f.Ino)
		if err != nil {
			return err
		}
		for i, err := range []error{tx.PutAttr(a), tx.PutMapRow(1, 1, &meta.MapRow{}), tx.DeleteMapRow(1, 1), tx.PutImage(1, 1, make([]byte, 99)),
			tx.DeleteImage(1, 1), tx.PutInline(1, meta.Inline{Sealed: make([]byte, 40)}), tx.DeleteInline(1), tx.PutMarker(1),
			tx.PutGarbage(meta.Garbage{Ino: 1, Serial: 1}), tx.DeleteGarbage(meta.Garbage{Ino: 1, Serial: 1})} {
			want(t, fmt.Sprint("write ", i), err, meta.ErrReadOnlyTx)
		}
		return nil
	})
	want(t, "view", err, nil)
}

func TestInodeNumbersAreNotReused(t *testing.T) {
	v := newTree(t)
	last := meta.Ino(0)
	for i := range 3 {
		s := v.Open(t, meta.Config{})
		for j := range 3 {
			a, err := s.Create(bg, 1, fmt.Appendf(nil, "%d-%d", i, j), meta.NewNode{Mode: meta.ModeFIFO})
			want(t, "create", err, nil)
			if a.Ino <= last {
				t.Fatalf("inode %d after %d", a.Ino, last)
			}
			last = a.Ino
			_, err = s.Unlink(bg, 1, fmt.Appendf(nil, "%d-%d", i, j), nil)
			want(t, "unlink", err, nil)
		}
	}
	if last < 2*1024 {
		t.Fatalf("last inode %d: batches were shared", last)
	}
}

func TestConcurrentCreatesAndLookups(t *testing.T) {
	v := newTree(t)
	const workers, each = 4, 25
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Appendf(nil, "%d-%d", w, i)
				a, err := v.Create(bg, 1, name, meta.NewNode{Mode: meta.ModeRegular | 0o600})
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				renamed := append(bytes.Clone(name), 'r')
				if _, err := v.Rename(bg, 1, name, 1, renamed, 0, nil); err != nil {
					t.Errorf("rename: %v", err)
				}
				if _, err := v.Lookup(bg, 1, name); !errors.Is(err, meta.ErrNotFound) {
					t.Errorf("old name: %v", err)
				}
				if b, err := v.Lookup(bg, 1, renamed); err != nil || b.Ino != a.Ino || b.Tag == a.Tag {
					t.Errorf("new name: %+v, %v", b, err)
				}
			}
		})
	}
	wg.Wait()
	list, err := v.ReadDir(bg, 1, 0, 1000)
	if err != nil || len(list) != workers*each {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	if v.LastRev() == 0 {
		t.Fatal("no revision")
	}
	v.clean()
}

func TestKeysGone(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	f := v.file(d.Ino, "f")
	l := v.mk(d.Ino, "l", meta.ModeSymlink|0o777)
	want(t, "xattr", v.SetXattr(bg, f.Ino, "user.a", nil, 0), nil)
	_, err := v.Lookup(bg, d.Ino, []byte("f")) // fills the cache
	want(t, "lookup", err, nil)
	for _, gone := range []error{meta.ErrKeyUnavailable, meta.ErrKeyRevoked} {
		v.Keyring.Fail(gone)
		ops := map[string]func() error{
			"lookup": func() error { _, err := v.Lookup(bg, d.Ino, []byte("f")); return err },
			"create": func() error {
				_, err := v.Create(bg, d.Ino, []byte("g"), meta.NewNode{Mode: meta.ModeFIFO})
				return err
			},
			"tmpfile":  func() error { _, err := v.Tmpfile(bg, d.Ino, meta.NewNode{Mode: meta.ModeRegular}); return err },
			"link":     func() error { _, err := v.Link(bg, f.Ino, d.Ino, []byte("g")); return err },
			"unlink":   func() error { _, err := v.Unlink(bg, d.Ino, []byte("f"), nil); return err },
			"rmdir":    func() error { _, err := v.Rmdir(bg, 1, []byte("d"), nil); return err },
			"rename":   func() error { _, err := v.Rename(bg, d.Ino, []byte("f"), 1, []byte("f"), 0, nil); return err },
			"readdir":  func() error { _, err := v.ReadDir(bg, d.Ino, 0, 10); return err },
			"plus":     func() error { _, err := v.ReadDirPlus(bg, d.Ino, 0, 10); return err },
			"readlink": func() error { _, err := v.Readlink(bg, l.Ino); return err },
			"getxattr": func() error { _, err := v.GetXattr(bg, f.Ino, "user.a"); return err },
			"list":     func() error { _, err := v.ListXattr(bg, f.Ino); return err },
			"setxattr": func() error { return v.SetXattr(bg, f.Ino, "user.b", nil, 0) },
			"remove":   func() error { return v.RemoveXattr(bg, f.Ino, "user.a") },
			"dek":      func() error { _, err := v.UnwrapDEK(bg, f, 1); return err },
			"path":     func() error { _, err := v.Path(bg, f.Ino); return err },
		}
		for name, op := range ops {
			want(t, name, op(), gone)
		}
		if _, err := v.Getattr(bg, f.Ino); err != nil {
			t.Errorf("getattr needs no zone key: %v", err)
		}
		if _, err := v.Check(bg, meta.CheckOptions{}, func(f meta.Fault) { t.Error(f) }); err != nil {
			t.Errorf("structural check needs no zone key: %v", err)
		}
		v.Keyring.Fail(nil)
	}
	v.clean()
}

func TestFormatTwice(t *testing.T) {
	v := newTree(t)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "zone", err, nil)
	err = meta.Format(bg, meta.FormatConfig{KV: v.KV, Volume: v.ID, RowsKey: v.RowsKey, Zone: z})
	want(t, "format again", err, meta.ErrExist)
	z.Dir = 5
	err = meta.Format(bg, meta.FormatConfig{KV: v.KV, Volume: v.ID, RowsKey: v.RowsKey, Zone: z})
	want(t, "format another zone", err, meta.ErrInvalid)
}

func TestPath(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	e := v.dir(d.Ino, "e")
	f := v.file(e.Ino, "f")
	for ino, path := range map[meta.Ino]string{1: "/", d.Ino: "/d", f.Ino: "/d/e/f"} {
		if got, err := v.Path(bg, ino); err != nil || string(got) != path {
			t.Errorf("%d: %q, %v", ino, got, err)
		}
	}
	tmp, err := v.Tmpfile(bg, e.Ino, meta.NewNode{Mode: meta.ModeRegular})
	want(t, "tmpfile", err, nil)
	_, err = v.Path(bg, tmp.Ino)
	want(t, "path of an orphan", err, meta.ErrNotFound)
}

func TestInodesAfter(t *testing.T) {
	v := newTree(t)
	all := []meta.Ino{meta.RootIno}
	for i := range 5 {
		all = append(all, v.mk(meta.RootIno, fmt.Sprint(i), meta.ModeFIFO).Ino)
	}
	var got []meta.Ino
	for after := meta.Ino(0); ; after = got[len(got)-1] {
		batch, err := v.InodesAfter(bg, after, 2)
		want(t, "inodes", err, nil)
		if len(batch) == 0 {
			break
		}
		got = append(got, batch...)
	}
	if fmt.Sprint(got) != fmt.Sprint(all) {
		t.Fatalf("%v, want %v", got, all)
	}
	if batch, err := v.InodesAfter(bg, 1<<64-1, 2); err != nil || len(batch) != 0 {
		t.Fatalf("behind the last: %v, %v", batch, err)
	}
}
