package meta_test

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// renameCase is one rename in the tree that newRenameTree makes:
//
//	/f /g (files)  /l (hard link of /f)  /d/ (empty)  /e/ (empty)  /full/x  /full/sub/deep/
type renameCase struct {
	what     string
	from, to string // "dir/name", dir by its name in the tree, "" for the root
	flags    meta.RenameFlags
	err      error
	same     bool
	replaced string // what must be gone or exchanged
}

var renameCases = []renameCase{
	{what: "to a new name", from: "/f", to: "/n"},
	{what: "into a directory", from: "/f", to: "d/f"},
	{what: "over a file", from: "/f", to: "/g", replaced: "g"},
	{what: "over a hard link of itself", from: "/f", to: "/l", same: true},
	{what: "onto itself", from: "/f", to: "/f", same: true},
	{what: "exchange of hard links", from: "/f", to: "/l", flags: meta.RenameExchange, same: true},
	{what: "hard link over a file", from: "/l", to: "/g", replaced: "g"},
	{what: "hard link into a directory", from: "/l", to: "d/l"},
	{what: "directory over an empty one", from: "/d", to: "/e", replaced: "e"},
	{what: "full directory over an empty one", from: "/full", to: "/e", replaced: "e"},
	{what: "directory into another", from: "/full", to: "d/full"},
	{what: "directory out of another", from: "full/sub", to: "/sub"},
	{what: "directory over one in another", from: "full/sub", to: "/d", replaced: "d"},
	{what: "no replace", from: "/f", to: "/n", flags: meta.RenameNoReplace},
	{what: "exchange of files", from: "/f", to: "full/x", flags: meta.RenameExchange, replaced: "x"},
	{what: "exchange of a file and a full directory", from: "/f", to: "full/sub", flags: meta.RenameExchange, replaced: "sub"},
	{what: "exchange of directories", from: "/d", to: "full/sub", flags: meta.RenameExchange, replaced: "sub"},
	{what: "exchange in one directory", from: "/d", to: "/full", flags: meta.RenameExchange, replaced: "full"},
	{what: "exchange of a hard link", from: "/l", to: "/g", flags: meta.RenameExchange, replaced: "g"},
	{what: "whiteout", from: "/f", to: "d/f", flags: meta.RenameWhiteout},
	{what: "whiteout of a directory", from: "full/sub", to: "/sub", flags: meta.RenameWhiteout},
	{what: "whiteout over a file", from: "/f", to: "/g", flags: meta.RenameWhiteout, replaced: "g"},

	{what: "no such name", from: "/n", to: "/m", err: meta.ErrNotFound},
	{what: "exchange with no name", from: "/f", to: "/n", flags: meta.RenameExchange, err: meta.ErrNotFound},
	{what: "file over a directory", from: "/f", to: "/d", err: meta.ErrIsDir},
	{what: "directory over a file", from: "/d", to: "/f", err: meta.ErrNotDir},
	{what: "directory over a full one", from: "/d", to: "/full", err: meta.ErrNotEmpty},
	{what: "directory into itself", from: "/full", to: "full/n", err: meta.ErrLoop},
	{what: "directory below itself", from: "/full", to: "sub/n", err: meta.ErrLoop},
	{what: "directory over its own child", from: "/full", to: "sub/deep", err: meta.ErrLoop},
	{what: "directory over its parent", from: "sub/deep", to: "full/sub", err: meta.ErrNotEmpty},
	{what: "exchange with a descendant", from: "/full", to: "sub/deep", flags: meta.RenameExchange, err: meta.ErrLoop},
	{what: "exchange with an ancestor", from: "sub/deep", to: "/full", flags: meta.RenameExchange, err: meta.ErrLoop},
	{what: "no replace over a file", from: "/f", to: "/g", flags: meta.RenameNoReplace, err: meta.ErrExist},
	{what: "no replace over itself", from: "/f", to: "/f", flags: meta.RenameNoReplace, err: meta.ErrExist},
	{what: "no replace and exchange", from: "/f", to: "/g", flags: meta.RenameNoReplace | meta.RenameExchange, err: meta.ErrInvalid},
	{what: "whiteout and exchange", from: "/f", to: "/g", flags: meta.RenameWhiteout | meta.RenameExchange, err: meta.ErrInvalid},
	{what: "unknown flag", from: "/f", to: "/n", flags: 8, err: meta.ErrInvalid},
	{what: "from a file", from: "f/x", to: "/n", err: meta.ErrNotDir},
	{what: "to a file", from: "/f", to: "g/x", err: meta.ErrNotDir},
	{what: "dot dot", from: "/f", to: "/..", err: meta.ErrBadName},
}

func TestRename(t *testing.T) {
	for _, c := range renameCases {
		t.Run(c.what, func(t *testing.T) {
			v := newTree(t)
			inodes := newRenameTree(v)
			from, oldName := splitCase(inodes, c.from)
			to, newName := splitCase(inodes, c.to)
			r, err := v.Rename(bg, from, []byte(oldName), to, []byte(newName), c.flags, nil)
			want(t, "rename", err, c.err)
			if err == nil {
				v.checkRenamed(c, inodes, r, from, oldName, to, newName)
			} else if a := v.attr(inodes["f"]); a.Nlink != 2 {
				t.Errorf("refused, but changed: %+v", a)
			}
			v.clean()
		})
	}
}

func newRenameTree(v *tree) map[string]meta.Ino {
	in := map[string]meta.Ino{"": meta.RootIno}
	for _, d := range []string{"d", "e", "full"} {
		in[d] = v.dir(meta.RootIno, d).Ino
	}
	in["f"], in["g"] = v.file(meta.RootIno, "f").Ino, v.file(meta.RootIno, "g").Ino
	in["x"], in["sub"] = v.file(in["full"], "x").Ino, v.dir(in["full"], "sub").Ino
	in["deep"] = v.dir(in["sub"], "deep").Ino
	if _, err := v.Link(bg, in["f"], meta.RootIno, []byte("l")); err != nil {
		v.t.Fatal(err)
	}
	in["l"] = in["f"]
	return in
}

func splitCase(inodes map[string]meta.Ino, path string) (meta.Ino, string) {
	for i := range path {
		if path[i] == '/' {
			return inodes[path[:i]], path[i+1:]
		}
	}
	panic("no slash in " + path)
}

func (v *tree) checkRenamed(c renameCase, inodes map[string]meta.Ino, r meta.RenameResult, from meta.Ino, oldName string, to meta.Ino, newName string) {
	t := v.t
	t.Helper()
	if r.Same != c.same || r.Moved.Ino != inodes[oldName] {
		t.Fatalf("%+v", r)
	}
	if a, err := v.Lookup(bg, to, []byte(newName)); err != nil || a.Ino != r.Moved.Ino || a.Version != r.Moved.Version {
		t.Fatalf("new name: %+v, %v", a, err)
	}
	if c.same {
		return
	}
	if r.Moved.IsRegular() {
		openKey(t, v.ID, v.Store, r.Moved)
	}
	if (r.Replaced != nil) != (c.replaced != "") || r.Replaced != nil && r.Replaced.Ino != inodes[c.replaced] {
		t.Fatalf("replaced %+v", r.Replaced)
	}
	old, err := v.Lookup(bg, from, []byte(oldName))
	switch {
	case c.flags&meta.RenameExchange != 0:
		if err != nil || old.Ino != r.Replaced.Ino {
			t.Fatalf("old name after exchange: %+v, %v", old, err)
		}
		if old.IsRegular() {
			openKey(t, v.ID, v.Store, old)
		}
		return
	case c.flags&meta.RenameWhiteout != 0:
		if err != nil || old.Mode != meta.ModeChar || old.Rdev != 0 || old.Ino != r.Whiteout.Ino {
			t.Fatalf("whiteout: %+v, %v", old, err)
		}
	default:
		want(t, "old name", err, meta.ErrNotFound)
	}
	if r.Replaced != nil {
		_, err := v.Getattr(bg, r.Replaced.Ino)
		want(t, "replaced inode", err, meta.ErrNotFound)
	}
}

func TestRenameOverOpenFile(t *testing.T) {
	v := newTree(t)
	f, g := v.file(meta.RootIno, "f"), v.file(meta.RootIno, "g")
	r, err := v.Rename(bg, 1, []byte("f"), 1, []byte("g"), 0, func(ino meta.Ino) bool { return ino == g.Ino })
	if err != nil || r.Replaced.Nlink != 0 || !r.Replaced.Flags.Orphan() || r.Moved.Ino != f.Ino {
		t.Fatalf("%+v, %v", r, err)
	}
	openKey(t, v.ID, v.Store, v.attr(g.Ino))
	v.clean()
	want(t, "release", v.ReleaseOrphans(bg, g.Ino), nil)
	v.clean()
}

func TestRenameTimes(t *testing.T) {
	v := newTree(t)
	d, e := v.dir(meta.RootIno, "d"), v.dir(meta.RootIno, "e")
	f := v.file(d.Ino, "f")
	d = v.attr(d.Ino)
	r, err := v.Rename(bg, d.Ino, []byte("f"), e.Ino, []byte("g"), 0, nil)
	want(t, "rename", err, nil)
	if r.Moved.Ctime == f.Ctime || r.Moved.Mtime != f.Mtime {
		t.Errorf("moved: %+v, before %+v", r.Moved, f)
	}
	for _, dir := range []*meta.Attr{d, e} {
		if a := v.attr(dir.Ino); a.Mtime == dir.Mtime || a.Ctime == dir.Ctime || a.Version == dir.Version || a.Nlink != 2 {
			t.Errorf("directory: %+v, before %+v", a, dir)
		}
	}
}

func TestRenameAs(t *testing.T) {
	v := newTree(t)
	v.file(meta.RootIno, "f")
	r, err := v.RenameAs(bg, meta.Owner{UID: 5, GID: 6}, 1, []byte("f"), 1, []byte("g"), meta.RenameWhiteout, nil)
	if err != nil || r.Whiteout.UID != 5 || r.Whiteout.GID != 6 {
		t.Fatalf("%+v, %v", r.Whiteout, err)
	}
}

// TestRenameIsCheap: a directory with many entries moves with as few rows as an empty one.
func TestRenameIsCheap(t *testing.T) {
	v := newTree(t)
	d, e := v.dir(meta.RootIno, "d"), v.dir(meta.RootIno, "e")
	for i := range 200 {
		v.mk(d.Ino, string(rune('A'+i)), meta.ModeFIFO)
	}
	before := rows(t, v.KV, 0)
	_, err := v.Rename(bg, 1, []byte("d"), e.Ino, []byte("d"), 0, nil)
	want(t, "rename", err, nil)
	old := map[string]string{}
	for _, r := range before {
		old[string(r.key)] = string(r.value)
	}
	changed := 0
	for _, r := range rows(t, v.KV, 0) {
		if old[string(r.key)] != string(r.value) {
			changed++
		}
	}
	if changed != 4 { // both parents, the directory, its dentry
		t.Fatalf("%d rows changed", changed)
	}
}
