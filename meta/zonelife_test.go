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
	sub := v.dir(d.Ino, "sub")
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	z, err := meta.NewZone(v.ID, 99, d.Ino, key)
	want(t, "zone", err, nil)
	z.Wraps = []meta.ZoneWrap{{KeyID: "test", Blob: []byte("test")}}
	zk, err := z.Keys(v.ID, key)
	want(t, "keys", err, nil)
	want(t, "not empty", v.MakeZone(bg, z, zk, meta.RootIno, []byte("d"), nil), meta.ErrNotEmpty)
	_, err = v.Rmdir(bg, d.Ino, []byte("sub"), nil)
	want(t, "rmdir", err, nil)
	want(t, "another name", v.MakeZone(bg, z, zk, meta.RootIno, []byte("e"), nil), meta.ErrStale)
	want(t, "another place", v.MakeZone(bg, z, zk, sub.Ino, []byte("d"), nil), meta.ErrNotFound)
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
	want(t, "again", v.MakeZone(bg, z, zk, meta.RootIno, []byte("d"), nil), meta.ErrExist)
	parent, name, err := v.ZonePlace(bg, z)
	if parent != meta.RootIno || name != "d" || err != nil {
		t.Errorf("place: %d %q %v", parent, name, err)
	}
	f := v.file(d.Ino, "f")
	openKey(t, v.ID, v.Store, f)
	want(t, "dissolve", v.DissolveZone(bg, z.ID), meta.ErrNotEmpty)
	_, err = v.Unlink(bg, d.Ino, []byte("f"), nil)
	want(t, "unlink", err, nil)
	v.clean()
	want(t, "dissolve", v.DissolveZone(bg, z.ID), nil)
	value, err = v.GetXattr(bg, d.Ino, "user.a")
	if err != nil || string(value) != "one" {
		t.Errorf("xattr: %q %v", value, err)
	}
	want(t, "dissolve the root", v.DissolveZone(bg, meta.RootZone), meta.ErrInvalid)
	v.clean()
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
