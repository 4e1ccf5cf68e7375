package meta_test

import (
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

func TestEpochs(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	var dek *blockcrypt.Key
	update := func(fn func(tx *meta.Tx, a *meta.Attr) error) error {
		_, err := v.Update(bg, func(tx *meta.Tx) error {
			a, err := tx.Attr(f.Ino)
			if err != nil {
				return err
			}
			return fn(tx, a)
		})
		return err
	}
	err := update(func(tx *meta.Tx, a *meta.Attr) error {
		a.Wraps[0].Uses = 7
		var err error
		if dek, err = v.AddEpoch(tx, a); err != nil {
			return err
		}
		a.Size = 1 // a is current after AddEpoch
		return tx.PutAttr(a)
	})
	want(t, "add epoch", err, nil)
	a := v.attr(f.Ino)
	if a.Epoch != 2 || len(a.Wraps) != 2 || a.Wraps[0].Uses != 7 || a.Size != 1 {
		t.Fatalf("%+v", a)
	}
	openKey(t, v.ID, v.Store, a)
	got, err := v.UnwrapDEK(bg, a, 2)
	if err != nil || *got != *dek {
		t.Fatalf("the key of epoch 2 is another one: %v", err)
	}
	if old, err := v.UnwrapDEK(bg, a, 1); err != nil || *old == *dek {
		t.Fatalf("the key of epoch 1: %v", err)
	}
	_, err = v.UnwrapDEK(bg, a, 3)
	want(t, "no such epoch", err, meta.ErrNotFound)

	_, err = v.Rename(bg, 1, []byte("f"), 1, []byte("g"), 0, nil)
	want(t, "rename", err, nil)
	openKey(t, v.ID, v.Store, v.attr(f.Ino))

	want(t, "drop the current epoch", update(func(tx *meta.Tx, a *meta.Attr) error { return v.DropEpoch(tx, a, 2) }), meta.ErrInvalid)
	want(t, "drop no epoch", update(func(tx *meta.Tx, a *meta.Attr) error { return v.DropEpoch(tx, a, 9) }), meta.ErrNotFound)
	want(t, "drop", update(func(tx *meta.Tx, a *meta.Attr) error { return v.DropEpoch(tx, a, 1) }), nil)
	if a := v.attr(f.Ino); len(a.Wraps) != 1 || a.Wrap(1) != nil || a.Wrap(2) == nil {
		t.Fatalf("%+v", a)
	}
	err = update(func(tx *meta.Tx, a *meta.Attr) error {
		for range meta.MaxWraps {
			if _, err := v.AddEpoch(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
	want(t, "too many epochs", err, meta.ErrInvalid)
	d := v.dir(meta.RootIno, "d")
	_, err = v.Update(bg, func(tx *meta.Tx) error {
		a, err := tx.Attr(d.Ino)
		if err != nil {
			return err
		}
		_, err = v.AddEpoch(tx, a)
		return err
	})
	want(t, "epoch of a directory", err, meta.ErrInvalid)
	v.clean()
}

// TestWrapsAreBoundToTheirPlace: a wrap that is carried to another inode, epoch or place does not open there.
func TestWrapsAreBoundToTheirPlace(t *testing.T) {
	v := newTree(t)
	f, g := v.file(meta.RootIno, "f"), v.file(meta.RootIno, "g")
	for _, c := range []struct {
		what   string
		change func(a *meta.Attr)
	}{
		{"inode", func(a *meta.Attr) { a.Ino = g.Ino }},
		{"parent", func(a *meta.Attr) { a.Parent = g.Ino }},
		{"tag", func(a *meta.Attr) { a.Tag = g.Tag }},
		{"orphan", func(a *meta.Attr) { a.Parent, a.Tag = 0, meta.NameTag{} }},
		{"epoch", func(a *meta.Attr) { a.Wraps[0].Epoch = 2; a.Epoch = 2 }},
		{"other file's wrap", func(a *meta.Attr) { a.Wraps = g.Wraps }},
		{"bytes", func(a *meta.Attr) { a.Wraps[0].Wrapped[71] ^= 1 }},
	} {
		a := f.Clone()
		c.change(a)
		_, err := v.UnwrapDEK(bg, a, a.Epoch)
		want(t, c.what, err, meta.ErrAuth)
	}
	other := newTree(t)
	_, err := other.UnwrapDEK(bg, f, 1)
	want(t, "other volume", err, meta.ErrAuth)
}
