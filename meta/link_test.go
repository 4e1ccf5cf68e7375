package meta_test

import (
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func always(meta.Ino) bool { return true }

func TestLinkAndUnlink(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	f := v.file(meta.RootIno, "f")
	a, err := v.Link(bg, f.Ino, d.Ino, []byte("g"))
	if err != nil || a.Nlink != 2 || a.Parent != 1 || a.Ctime == f.Ctime || a.Mtime != f.Mtime {
		t.Fatalf("%+v, %v", a, err)
	}
	_, err = v.Link(bg, f.Ino, 1, []byte("h"))
	want(t, "third link", err, nil)
	// A further name goes: the place stays.
	a, err = v.Unlink(bg, 1, []byte("h"), nil)
	if err != nil || a.Nlink != 2 || a.Tag != f.Tag {
		t.Fatalf("%+v, %v", a, err)
	}
	v.clean()
	// The primary one goes: the other takes over, and the key opens there.
	a, err = v.Unlink(bg, 1, []byte("f"), nil)
	if err != nil || a.Nlink != 1 || a.Parent != d.Ino || a.Tag == f.Tag {
		t.Fatalf("%+v, %v", a, err)
	}
	openKey(t, v.ID, v.Store, a)
	moved := *f
	moved.Wraps = a.Wraps
	_, err = v.UnwrapDEK(bg, &moved, 1)
	want(t, "the new wrap in the old place", err, meta.ErrAuth)
	v.clean()
	a, err = v.Unlink(bg, d.Ino, []byte("g"), nil)
	if err != nil || a.Nlink != 0 || a.Flags.Orphan() {
		t.Fatalf("%+v, %v", a, err)
	}
	_, err = v.Getattr(bg, f.Ino)
	want(t, "getattr", err, meta.ErrNotFound)
	v.clean()
}

func TestLinkRefuses(t *testing.T) {
	v := newTree(t)
	d, f := v.dir(meta.RootIno, "d"), v.file(meta.RootIno, "f")
	open := v.file(meta.RootIno, "open")
	_, err := v.Unlink(bg, 1, []byte("open"), always)
	want(t, "unlink", err, nil)
	for _, c := range []struct {
		what        string
		ino, parent meta.Ino
		name        string
		err         error
	}{
		{"a directory", d.Ino, 1, "x", meta.ErrIsDir},
		{"no inode", 999, 1, "x", meta.ErrNotFound},
		{"no directory", f.Ino, 999, "x", meta.ErrNotFound},
		{"into a file", f.Ino, f.Ino, "x", meta.ErrNotDir},
		{"existing name", f.Ino, 1, "d", meta.ErrExist},
		{"removed file", open.Ino, 1, "x", meta.ErrNotFound},
		{"bad name", f.Ino, 1, "..", meta.ErrBadName},
	} {
		_, err := v.Link(bg, c.ino, c.parent, []byte(c.name))
		want(t, c.what, err, c.err)
	}
	v.clean()
}

func TestMaxLinks(t *testing.T) {
	v := newTree(t)
	f := v.mk(meta.RootIno, "f", meta.ModeFIFO)
	setNlink(t, v.Volume, f.Ino, meta.MaxLinks)
	_, err := v.Link(bg, f.Ino, 1, []byte("g"))
	want(t, "one link too many", err, meta.ErrTooManyLinks)
	setNlink(t, v.Volume, f.Ino, meta.MaxLinks-1)
	_, err = v.Link(bg, f.Ino, 1, []byte("g"))
	want(t, "the last link", err, nil)
}

func TestUnlinkRefuses(t *testing.T) {
	v := newTree(t)
	d, f := v.dir(meta.RootIno, "d"), v.file(meta.RootIno, "f")
	v.file(d.Ino, "x")
	for _, c := range []struct {
		what   string
		parent meta.Ino
		name   string
		rmdir  bool
		err    error
	}{
		{"no name", 1, "x", false, meta.ErrNotFound},
		{"directory", 1, "d", false, meta.ErrIsDir},
		{"in a file", f.Ino, "d", false, meta.ErrNotDir},
		{"rmdir of a file", 1, "f", true, meta.ErrNotDir},
		{"rmdir of no name", 1, "x", true, meta.ErrNotFound},
		{"rmdir of a full directory", 1, "d", true, meta.ErrNotEmpty},
		{"rmdir of dot", 1, ".", true, meta.ErrBadName},
	} {
		op := v.Unlink
		if c.rmdir {
			op = v.Rmdir
		}
		_, err := op(bg, c.parent, []byte(c.name), nil)
		want(t, c.what, err, c.err)
	}
	v.clean()
}

func TestRmdirOfOpenDirectory(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	a, err := v.Rmdir(bg, 1, []byte("d"), always)
	if err != nil || a.Nlink != 0 || !a.Flags.Orphan() {
		t.Fatalf("%+v, %v", a, err)
	}
	if list, err := v.ReadDir(bg, d.Ino, 0, 9); err != nil || len(list) != 0 {
		t.Fatalf("entries %v, %v", list, err)
	}
	_, err = v.Lookup(bg, d.Ino, []byte(".."))
	want(t, "its parent", err, meta.ErrNotFound)
	v.clean()
	want(t, "release", v.ReleaseOrphans(bg, d.Ino), nil)
	if root := v.attr(1); root.Nlink != 2 {
		t.Fatalf("root has %d links", root.Nlink)
	}
	v.clean()
}

func TestTmpfile(t *testing.T) {
	v := newTree(t)
	_, err := v.Tmpfile(bg, 1, meta.NewNode{Mode: meta.ModeDir})
	want(t, "directory", err, meta.ErrInvalid)
	a, err := v.Tmpfile(bg, 1, meta.NewNode{Mode: meta.ModeRegular | 0o600, Xattrs: map[string][]byte{"user.a": []byte("b")}})
	if err != nil || a.Nlink != 0 || !a.Flags.Orphan() || a.Parent != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	openKey(t, v.ID, v.Store, a)
	v.clean()
	b, err := v.Link(bg, a.Ino, 1, []byte("named"))
	if err != nil || b.Nlink != 1 || b.Flags.Orphan() || b.Parent != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
	openKey(t, v.ID, v.Store, b)
	v.clean()
	want(t, "release of a named inode", v.ReleaseOrphans(bg, a.Ino), nil)
	v.attr(a.Ino)
	c, err := v.Tmpfile(bg, 1, meta.NewNode{Mode: meta.ModeRegular, Xattrs: map[string][]byte{"user.a": nil}})
	want(t, "second", err, nil)
	want(t, "release", v.ReleaseOrphans(bg, c.Ino), nil)
	want(t, "release again", v.ReleaseOrphans(bg, c.Ino), nil)
	v.clean()
	if n := countRows(t, v.KV, 'X'); n != 1 {
		t.Fatalf("%d xattr rows", n)
	}
}

// TestReleaseTogether: orphans of all sorts go together, in a few transactions; those that are gone or have a name keep none.
func TestReleaseTogether(t *testing.T) {
	v := newTree(t)
	named := v.file(meta.RootIno, "named")
	inos := []meta.Ino{named.Ino, 1 << 40}
	const orphans = 100
	for i := range orphans {
		a, err := v.Tmpfile(bg, 1, meta.NewNode{Mode: meta.ModeRegular, Xattrs: map[string][]byte{"user.a": {byte(i)}}})
		want(t, "tmpfile", err, nil)
		inos = append(inos, a.Ino)
		if i%2 == 0 {
			_, err := v.Update(bg, func(tx *meta.Tx) error { return putBlock(tx, a.Ino, 0, 1) })
			want(t, "write", err, nil)
		}
	}
	before := v.LastRev()
	want(t, "release", v.ReleaseOrphans(bg, inos...), nil)
	if n := v.LastRev() - before; n > orphans/8 {
		t.Errorf("%d transactions for %d orphans", n, orphans)
	}
	for _, kind := range "OXC" {
		if n := countRows(t, v.KV, byte(kind)); n != 0 {
			t.Errorf("%d rows %c left", n, kind)
		}
	}
	v.attr(named.Ino)
	v.clean()
	want(t, "release again", v.ReleaseOrphans(bg, inos...), nil)
}

// TestRemoveLargeFile: more map rows than go in one transaction, removed in steps, also by a Store that starts in the middle.
func TestRemoveLargeFile(t *testing.T) {
	const rows = 1200
	for _, open := range []bool{false, true} {
		v := newTree(t)
		f := v.file(meta.RootIno, "f")
		for first := 0; first < rows; first += 100 {
			_, err := v.Update(bg, func(tx *meta.Tx) error {
				for row := first; row < first+100; row++ {
					if err := putBlock(tx, f.Ino, uint64(row)*meta.MapRowBlocks, 1); err != nil {
						return err
					}
				}
				return tx.PutImage(f.Ino, uint64(first)*meta.MapRowBlocks, append(make([]byte, meta.ImageHeader), 1))
			})
			want(t, "write", err, nil)
		}
		a, err := v.Unlink(bg, 1, []byte("f"), func(meta.Ino) bool { return open })
		if err != nil || a.Nlink != 0 || !a.Flags.Orphan() {
			t.Fatalf("open %v: %+v, %v", open, a, err)
		}
		if left := countRows(t, v.KV, 'C'); open != (left == rows) || left == 0 {
			t.Fatalf("open %v: %d rows left after unlink", open, left)
		}
		v.cleanButImages()
		var orphans []meta.Ino
		s := v.Open(t, meta.Config{})
		want(t, "orphans", s.Orphans(bg, func(ino meta.Ino) error { orphans = append(orphans, ino); return s.ReleaseOrphans(bg, ino) }), nil)
		if fmt.Sprint(orphans) != fmt.Sprint([]meta.Ino{f.Ino}) {
			t.Fatalf("orphans %v", orphans)
		}
		for _, kind := range "BCO" {
			if n := countRows(t, v.KV, byte(kind)); n != 0 {
				t.Fatalf("%d rows %c left", n, kind)
			}
		}
		var garbage []meta.Garbage
		want(t, "garbage", v.View(bg, func(tx *meta.Tx) error {
			return tx.ScanGarbage(meta.Garbage{}, func(g meta.Garbage) bool { garbage = append(garbage, g); return true })
		}), nil)
		if len(garbage) != 1 || garbage[0] != (meta.Garbage{Ino: f.Ino, Serial: 1}) {
			t.Fatalf("garbage %v", garbage)
		}
		v.clean()
	}
}

// cleanButImages is clean where images do not hold what the map says.
func (v *tree) cleanButImages() {
	t := v.t
	t.Helper()
	_, err := v.Check(bg, meta.CheckOptions{Keys: true}, func(f meta.Fault) {
		if f.Class != meta.FaultImage {
			t.Error(f)
		}
	})
	want(t, "check", err, nil)
}

func TestManyOrphans(t *testing.T) {
	v := newTree(t)
	for i := range 600 {
		v.mk(meta.RootIno, fmt.Sprint(i), meta.ModeFIFO)
		_, err := v.Unlink(bg, 1, fmt.Append(nil, i), always)
		want(t, "unlink", err, nil)
	}
	n := 0
	want(t, "orphans", v.Orphans(bg, func(ino meta.Ino) error { n++; return v.ReleaseOrphans(bg, ino) }), nil)
	if n != 600 || countRows(t, v.KV, 'O') != 0 {
		t.Fatalf("%d orphans seen", n)
	}
	v.clean()
}
