package meta_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func TestXattrs(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	long := "user." + strings.Repeat("n", 250)
	big := make([]byte, meta.MaxXattrValue)
	for _, c := range []struct {
		what  string
		name  string
		value []byte
		flags meta.XattrFlags
		err   error
	}{
		{"replace what is not there", "user.a", nil, meta.XattrReplace, meta.ErrNoXattr},
		{"create", "user.a", []byte("1"), meta.XattrCreate, nil},
		{"create again", "user.a", []byte("2"), meta.XattrCreate, meta.ErrExist},
		{"replace", "user.a", []byte("3"), meta.XattrReplace, nil},
		{"either", "user.a", []byte{}, 0, nil},
		{"largest", long, big, 0, nil},
		{"value too big", "user.b", append(big, 0), 0, meta.ErrXattrTooBig},
		{"name too long", long + "n", nil, 0, meta.ErrNameTooLong},
		{"empty name", "", nil, 0, meta.ErrBadName},
		{"nul in name", "user.\x00", nil, 0, meta.ErrBadName},
		{"both flags", "user.a", nil, 3, meta.ErrInvalid},
	} {
		want(t, c.what, v.SetXattr(bg, f.Ino, c.name, c.value, c.flags), c.err)
		if c.err == nil {
			got, err := v.GetXattr(bg, f.Ino, c.name)
			if err != nil || string(got) != string(c.value) {
				t.Fatalf("%s: got %d bytes, %v", c.what, len(got), err)
			}
		}
	}
	names, err := v.ListXattr(bg, f.Ino)
	slices.Sort(names)
	if err != nil || fmt.Sprint(names) != fmt.Sprint([]string{"user.a", long}) {
		t.Fatalf("%v, %v", names, err)
	}
	v.clean()
	a := v.attr(f.Ino)
	if a.Ctime == f.Ctime || a.Mtime != f.Mtime || a.XattrList != uint32(len(long)+len("user.a")+2) {
		t.Fatalf("%+v", a)
	}
	want(t, "remove", v.RemoveXattr(bg, f.Ino, "user.a"), nil)
	want(t, "remove again", v.RemoveXattr(bg, f.Ino, "user.a"), meta.ErrNoXattr)
	want(t, "remove the last", v.RemoveXattr(bg, f.Ino, long), nil)
	_, err = v.GetXattr(bg, f.Ino, long)
	want(t, "get", err, meta.ErrNoXattr)
	if a := v.attr(f.Ino); a.Flags.HasXattr() || a.XattrList != 0 {
		t.Fatalf("%+v", a)
	}
	for _, op := range []error{v.SetXattr(bg, 999, "user.a", nil, 0), v.RemoveXattr(bg, 999, "user.a")} {
		want(t, "no inode", op, meta.ErrNotFound)
	}
	v.clean()
}

func TestXattrListLimit(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	xattrs := map[string][]byte{}
	for i := range meta.MaxXattrList / 256 {
		xattrs[fmt.Sprintf("user.%0250d", i)] = nil
	}
	g, err := v.Create(bg, 1, []byte("g"), meta.NewNode{Mode: meta.ModeRegular, Xattrs: xattrs})
	want(t, "create with a full list", err, nil)
	want(t, "one more", v.SetXattr(bg, g.Ino, "u", nil, 0), meta.ErrXattrList)
	want(t, "another inode", v.SetXattr(bg, f.Ino, "u", nil, 0), nil)
	want(t, "remove", v.RemoveXattr(bg, g.Ino, fmt.Sprintf("user.%0250d", 0)), nil)
	want(t, "now", v.SetXattr(bg, g.Ino, "u", nil, 0), nil)
	v.clean()
}

func TestSetXattrWith(t *testing.T) {
	v := newTree(t)
	f := v.mk(meta.RootIno, "f", meta.ModeRegular|meta.ModeSetGID|0o755)
	a, err := v.SetXattrWith(bg, f.Ino, meta.XattrACLAccess, []byte("acl"), 0, func(a *meta.Attr) error {
		a.Mode &^= meta.ModeSetGID
		return nil
	})
	if err != nil || a.Mode&meta.ModeSetGID != 0 || a.Flags&meta.FlagACLAccess == 0 || a.Version != f.Version+1 {
		t.Fatalf("%+v, %v", a, err)
	}
	_, err = v.SetXattrWith(bg, f.Ino, "user.a", nil, 0, func(*meta.Attr) error { return meta.ErrNoSpace })
	want(t, "fn's error", err, meta.ErrNoSpace)
	_, err = v.GetXattr(bg, f.Ino, "user.a")
	want(t, "nothing was set", err, meta.ErrNoXattr)
	_, err = v.GetXattr(bg, f.Ino, meta.XattrACLDefault)
	want(t, "the other ACL", err, meta.ErrNoXattr)
	v.clean()
}

func TestReadlink(t *testing.T) {
	v := newTree(t)
	for _, target := range []string{"x", "/a/b", strings.Repeat("t", meta.MaxTarget)} {
		a, err := v.Create(bg, 1, fmt.Append(nil, len(target)), meta.NewNode{Mode: meta.ModeSymlink | 0o777, Target: []byte(target)})
		want(t, "create", err, nil)
		if got, err := v.Readlink(bg, a.Ino); err != nil || string(got) != target || a.Size != uint64(len(target)) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	_, err := v.Readlink(bg, 1)
	want(t, "a directory", err, meta.ErrInvalid)
	_, err = v.Readlink(bg, 999)
	want(t, "no inode", err, meta.ErrNotFound)
	v.clean()
}
