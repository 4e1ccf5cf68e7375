package meta_test

import (
	"bytes"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

func TestMakeZone(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	want(t, "xattr", v.SetXattr(bg, d.Ino, "user.a", []byte("one"), 0), nil)
	want(t, "acl", v.SetXattr(bg, d.Ino, meta.XattrACLDefault, []byte("acl"), 0), nil)
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	z, err := meta.NewZone(v.ID, 99, d.Ino, key)
	want(t, "zone", err, nil)
	z.Wraps = []meta.ZoneWrap{{KeyID: "test", Blob: []byte("test")}}
	zk, err := z.Keys(v.ID, key)
	want(t, "keys", err, nil)
	_, err = v.MakeZone(bg, z, zk, meta.RootIno, []byte("e"), nil)
	want(t, "another name", err, meta.ErrStale)
	_, err = v.MakeZone(bg, z, zk, 1<<40, []byte("d"), nil)
	want(t, "another place", err, meta.ErrNotFound)
	v.clean()

	z = addZone(t, v, d.Ino, "d")
	a, err := v.Getattr(bg, d.Ino)
	if err != nil || a.Zone != z.ID {
		t.Fatalf("%+v %v", a, err)
	}
	value, err := v.GetXattr(bg, d.Ino, "user.a")
	if err != nil || string(value) != "one" {
		t.Errorf("xattr: %q %v", value, err)
	}
	_, err = v.MakeZone(bg, z, zk, meta.RootIno, []byte("d"), nil)
	want(t, "again", err, meta.ErrExist)
	parent, name, err := v.ZonePlace(bg, z)
	if parent != meta.RootIno || name != "d" || err != nil {
		t.Errorf("place: %d %q %v", parent, name, err)
	}
	f := v.file(d.Ino, "f")
	openKey(t, v.ID, v.Store, f)
	files, around, err := v.DissolveZone(bg, z.ID)
	want(t, "dissolve", err, nil)
	if len(files) != 1 || files[0] != f.Ino || around != meta.RootZone {
		t.Errorf("dissolved into zone %d, files %v", around, files)
	}
	f, err = v.Lookup(bg, d.Ino, []byte("f"))
	want(t, "lookup", err, nil)
	openKey(t, v.ID, v.Store, f)
	value, err = v.GetXattr(bg, d.Ino, "user.a")
	if err != nil || string(value) != "one" {
		t.Errorf("xattr: %q %v", value, err)
	}
	_, _, err = v.DissolveZone(bg, meta.RootZone)
	want(t, "dissolve the root", err, meta.ErrInvalid)
	v.clean()
}

// TestZoneOfTree: a directory with all kinds of things below becomes a zone and ceases to be one, and all of it is found and opens under the keys of where it is.
func TestZoneOfTree(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	sub := v.dir(d.Ino, "sub")
	deep := v.dir(sub.Ino, "deep")
	f, g := v.file(d.Ino, "f"), v.file(deep.Ino, "g")
	_, err := v.Create(bg, sub.Ino, []byte("link"), meta.NewNode{Mode: meta.ModeSymlink | 0o777, Target: []byte("../f")})
	want(t, "symlink", err, nil)
	want(t, "xattr", v.SetXattr(bg, g.Ino, "user.a", []byte("one"), 0), nil)
	_, err = v.Link(bg, f.Ino, deep.Ino, []byte("again"))
	want(t, "link", err, nil)
	outside, inner := v.dir(meta.RootIno, "outside"), v.dir(d.Ino, "inner")
	nested := addZoneIn(t, v, d.Ino, inner.Ino, "inner") // one of another zone stays what it is
	held := v.file(inner.Ino, "held")
	_, err = v.Link(bg, g.Ino, outside.Ino, []byte("g"))
	want(t, "link", err, nil)
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	z, err := meta.NewZone(v.ID, 99, d.Ino, key)
	want(t, "zone", err, nil)
	z.Wraps = []meta.ZoneWrap{{KeyID: "test", Blob: []byte("test")}}
	zk, err := z.Keys(v.ID, key)
	want(t, "keys", err, nil)
	_, err = v.MakeZone(bg, z, zk, meta.RootIno, []byte("d"), nil)
	want(t, "a name outside", err, meta.ErrCrossZone)
	v.clean()
	_, err = v.Unlink(bg, outside.Ino, []byte("g"), nil)
	want(t, "unlink", err, nil)

	found := func(zone meta.ZoneID) {
		t.Helper()
		for _, c := range []struct {
			dir  meta.Ino
			name string
			ino  meta.Ino
		}{{d.Ino, "sub", sub.Ino}, {d.Ino, "f", f.Ino}, {sub.Ino, "deep", deep.Ino}, {deep.Ino, "g", g.Ino}, {deep.Ino, "again", f.Ino}, {sub.Ino, "link", 0}} {
			a, err := v.Lookup(bg, c.dir, []byte(c.name))
			if err != nil || c.ino != 0 && a.Ino != c.ino || a.Zone != zone {
				t.Fatalf("%s: %+v, %v", c.name, a, err)
			}
			if a.IsRegular() {
				openKey(t, v.ID, v.Store, a)
			}
			if target, err := v.Readlink(bg, a.Ino); a.Type() == meta.ModeSymlink && (err != nil || string(target) != "../f") {
				t.Errorf("target %q, %v", target, err)
			}
		}
		if a, err := v.Lookup(bg, d.Ino, []byte("inner")); err != nil || a.Zone != nested.ID {
			t.Errorf("the directory of another zone: %+v, %v", a, err)
		}
		if a, err := v.Lookup(bg, inner.Ino, []byte("held")); err != nil || a.Ino != held.Ino || a.Zone != nested.ID {
			t.Errorf("in another zone: %+v, %v", a, err)
		}
		if value, err := v.GetXattr(bg, g.Ino, "user.a"); err != nil || string(value) != "one" {
			t.Errorf("xattr: %q %v", value, err)
		}
		v.clean()
	}
	z = addZone(t, v, d.Ino, "d")
	found(z.ID)
	files, around, err := v.DissolveZone(bg, z.ID)
	if err != nil || around != meta.RootZone || len(files) != 2 {
		t.Fatalf("dissolved into zone %d, files %v, %v", around, files, err)
	}
	found(meta.RootZone)
}

func TestMoveZone(t *testing.T) {
	v := newTree(t)
	d, e := v.dir(meta.RootIno, "d"), v.dir(meta.RootIno, "e")
	z := addZone(t, v, d.Ino, "d")
	f := v.file(d.Ino, "f")
	wraps := []meta.ZoneWrap{{KeyID: "test", Blob: []byte("anew")}}
	_, err := v.MoveZone(bg, &meta.Zone{ID: 77}, &meta.Zone{Wraps: wraps}, meta.RootIno, []byte("d"), e.Ino, []byte("x"), 0, nil)
	want(t, "another zone", err, meta.ErrCrossZone)
	_, err = v.MoveZone(bg, z, &meta.Zone{Wraps: wraps}, meta.RootIno, []byte("d"), d.Ino, []byte("x"), 0, nil)
	want(t, "into itself", err, meta.ErrLoop)
	_, err = v.MoveZone(bg, &meta.Zone{ID: z.ID, Commitment: z.Commitment, Wraps: wraps}, &meta.Zone{Wraps: wraps}, meta.RootIno, []byte("d"), e.Ino, []byte("x"), 0, nil)
	want(t, "wrapped anew meanwhile", err, meta.ErrStale)
	_, err = v.MoveZone(bg, z, &meta.Zone{Wraps: wraps}, meta.RootIno, []byte("d"), e.Ino, []byte("x"), 0, nil)
	want(t, "move", err, nil)
	got, err := v.Zone(bg, z.ID)
	if err != nil || string(got.Wraps[0].Blob) != "anew" {
		t.Fatalf("%+v %v", got, err)
	}
	parent, name, err := v.ZonePlace(bg, got)
	if parent != e.Ino || name != "x" || err != nil {
		t.Errorf("place: %d %q %v", parent, name, err)
	}
	openKey(t, v.ID, v.Store, f)
	paths, complete, err := v.Paths(bg, f.Ino, 4)
	if err != nil || !complete || len(paths) != 1 || paths[0] != "/e/x/f" {
		t.Errorf("paths %q %v %v", paths, complete, err)
	}
	v.clean()
}

// TestPolicyRows: a policy that is gone, or an older one, is refused, and so is one that the zone does not know of.
func TestPolicyRows(t *testing.T) {
	v := newTree(t)
	row := append([]byte{'P'}, beUint64(1)...)
	read := func() []byte {
		var sealed []byte
		err := v.KV.View(bg, func(r kv.Reader) error {
			vals, err := r.Get(bg, row)
			sealed = bytes.Clone(vals[0])
			return err
		})
		want(t, "read row", err, nil)
		return sealed
	}
	put := func(sealed []byte) {
		_, err := v.KV.Update(bg, kv.OpID{}, func(tx kv.Txn) error {
			if sealed == nil {
				tx.Delete(bytes.Clone(row))
			} else {
				tx.Put(bytes.Clone(row), bytes.Clone(sealed))
			}
			return nil
		})
		want(t, "put row", err, nil)
	}
	change := func(document string) {
		_, _, err := v.ChangeZone(bg, meta.RootZone, []byte(document), nil)
		want(t, "change", err, nil)
	}
	document, version, err := v.Policy(bg, meta.RootZone)
	if document != nil || version != 0 || err != nil {
		t.Fatalf("%q %d %v", document, version, err)
	}
	change("first")
	first := read()
	change("second")
	second := read()
	document, version, err = v.Policy(bg, meta.RootZone)
	if string(document) != "second" || version != 2 || err != nil {
		t.Fatalf("%q %d %v", document, version, err)
	}
	v.clean()
	for what, sealed := range map[string][]byte{"older": first, "gone": nil, "cut": second[:8]} {
		put(sealed)
		if _, _, err = v.Policy(bg, meta.RootZone); err == nil {
			t.Errorf("%s policy is accepted", what)
		}
		want(t, what, err, meta.ErrAuth)
	}
	put(second)
	change("")
	document, version, err = v.Policy(bg, meta.RootZone)
	if document != nil || version != 3 || err != nil {
		t.Fatalf("%q %d %v", document, version, err)
	}
	v.clean()
	put(second)
	_, _, err = v.Policy(bg, meta.RootZone)
	want(t, "policy that was removed", err, meta.ErrAuth)
	_, _, err = v.ChangeZone(bg, 55, []byte("x"), nil)
	want(t, "no zone", err, meta.ErrNotFound)
	_, _, err = v.ChangeZone(bg, meta.RootZone, make([]byte, meta.MaxPolicy+1), nil)
	want(t, "too long", err, meta.ErrInvalid)
}

func TestLinkPaths(t *testing.T) {
	v := newTree(t)
	d, f := v.dir(meta.RootIno, "d"), v.file(meta.RootIno, "f")
	_, err := v.Link(bg, f.Ino, d.Ino, []byte("g"))
	want(t, "link", err, nil)
	paths, complete, err := v.Paths(bg, f.Ino, 8)
	if err != nil || !complete || len(paths) != 2 || paths[0] != "/f" || paths[1] != "/d/g" {
		t.Errorf("%q %v %v", paths, complete, err)
	}
	paths, complete, err = v.Paths(bg, f.Ino, 1)
	if err != nil || complete || len(paths) != 1 {
		t.Errorf("%q %v %v", paths, complete, err)
	}
}
