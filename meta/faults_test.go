package meta_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

var errDisk = errors.New("disk on fire")

// failing is a KV store whose n-th call from now on fails: a read, or a commit. It can pretend to be shared.
type failing struct {
	kv.Store
	left   int // calls until the failure; negative: none
	shared bool
}

func (f *failing) tick() error {
	if f.left--; f.left == 0 {
		return errDisk
	}
	return nil
}

func (f *failing) Caps() kv.Caps {
	c := f.Store.Caps()
	c.Exclusive = !f.shared
	return c
}

func (f *failing) View(ctx context.Context, fn func(kv.Reader) error) error {
	return f.Store.View(ctx, func(r kv.Reader) error { return fn(&failingReader{r, f}) })
}

func (f *failing) Update(ctx context.Context, id kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	return f.Store.Update(ctx, id, func(tx kv.Txn) error {
		if err := fn(&failingTxn{tx, failingReader{tx, f}}); err != nil {
			return err
		}
		return f.tick()
	})
}

type failingReader struct {
	kv.Reader
	f *failing
}

func (r *failingReader) Get(ctx context.Context, keys ...[]byte) ([][]byte, error) {
	if err := r.f.tick(); err != nil {
		return nil, err
	}
	return r.Reader.Get(ctx, keys...)
}

func (r *failingReader) Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error {
	if err := r.f.tick(); err != nil {
		return err
	}
	return r.Reader.Scan(ctx, lo, hi, limit, fn)
}

type failingTxn struct {
	kv.Txn
	r failingReader
}

func (x *failingTxn) Get(ctx context.Context, keys ...[]byte) ([][]byte, error) {
	return x.r.Get(ctx, keys...)
}

func (x *failingTxn) Scan(ctx context.Context, lo, hi []byte, limit int, fn func(k, v []byte) bool) error {
	return x.r.Scan(ctx, lo, hi, limit, fn)
}

// TestEveryCallFails lets each operation fail at its first call to the store, its second, and so on until it succeeds: the error comes through,
// nothing is half done, and the caches tell the truth.
func TestEveryCallFails(t *testing.T) {
	ops := []struct {
		name string
		do   func(v *tree, in map[string]meta.Ino) error
	}{
		{"create", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Create(bg, in["d"], []byte("new"), meta.NewNode{Mode: meta.ModeRegular, Xattrs: map[string][]byte{"user.x": nil}})
			return err
		}},
		{"tmpfile", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Tmpfile(bg, in["d"], meta.NewNode{Mode: meta.ModeRegular})
			return err
		}},
		{"link", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Link(bg, in["f"], in["d"], []byte("new"))
			return err
		}},
		{"link tmpfile", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Link(bg, in["tmp"], in["d"], []byte("new"))
			return err
		}},
		{"unlink primary", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Unlink(bg, in["d"], []byte("f"), nil)
			return err
		}},
		{"unlink last", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Unlink(bg, in["d"], []byte("s"), nil)
			return err
		}},
		{"unlink open", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Unlink(bg, in["d"], []byte("s"), always)
			return err
		}},
		{"rmdir", func(v *tree, in map[string]meta.Ino) error { _, err := v.Rmdir(bg, 1, []byte("e"), nil); return err }},
		{"rename over", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Rename(bg, in["d"], []byte("s"), in["d"], []byte("f"), 0, nil)
			return err
		}},
		{"exchange", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Rename(bg, in["d"], []byte("f"), 1, []byte("e"), meta.RenameExchange, nil)
			return err
		}},
		{"whiteout", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Rename(bg, 1, []byte("d"), in["e"], []byte("d"), meta.RenameWhiteout, nil)
			return err
		}},
		{"setattr", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.SetAttr(bg, in["f"], func(a *meta.Attr) error { a.UID = 9; return nil })
			return err
		}},
		{"setxattr", func(v *tree, in map[string]meta.Ino) error { return v.SetXattr(bg, in["f"], "user.n", nil, 0) }},
		{"removexattr", func(v *tree, in map[string]meta.Ino) error { return v.RemoveXattr(bg, in["f"], "user.a") }},
		{"release", func(v *tree, in map[string]meta.Ino) error { return v.ReleaseOrphans(bg, in["tmp"]) }},
		{"lookup", func(v *tree, in map[string]meta.Ino) error { _, err := v.Lookup(bg, in["d"], []byte("f")); return err }},
		{"readdirplus", func(v *tree, in map[string]meta.Ino) error { _, err := v.ReadDirPlus(bg, in["d"], 0, 9); return err }},
		{"getxattr", func(v *tree, in map[string]meta.Ino) error { _, err := v.GetXattr(bg, in["f"], "user.a"); return err }},
		{"listxattr", func(v *tree, in map[string]meta.Ino) error { _, err := v.ListXattr(bg, in["f"]); return err }},
		{"readlink", func(v *tree, in map[string]meta.Ino) error { _, err := v.Readlink(bg, in["s"]); return err }},
		{"path", func(v *tree, in map[string]meta.Ino) error { _, err := v.Path(bg, in["f"]); return err }},
		{"check", func(v *tree, in map[string]meta.Ino) error {
			_, err := v.Check(bg, meta.CheckOptions{Keys: true}, func(f meta.Fault) { v.t.Errorf("check: %v", f) })
			return err
		}},
	}
	for _, op := range ops {
		t.Run(op.name, func(t *testing.T) {
			store := &failing{Store: memory.New(), left: -1}
			v := fullTreeOn(t, metatest.NewVolumeOn(t, store))
			in := v.names()
			for n := 1; ; n++ {
				before := rows(t, store.Store, 'A')
				v.Store = v.Open(t, meta.Config{})
				store.left = n
				err := op.do(v, in)
				done := store.left > 0
				store.left = -1
				if !done {
					want(t, fmt.Sprintf("call %d fails", n), err, errDisk)
					if after := rows(t, store.Store, 'A'); fmt.Sprint(after) != fmt.Sprint(before) {
						t.Fatalf("call %d failed and inodes changed", n)
					}
				}
				v.clean()
				compareCaches(t, v)
				if done {
					want(t, "no call fails", err, nil)
					return
				}
				if n > 100 {
					t.Fatal("does not end")
				}
			}
		})
	}
}

// compareCaches reads all inodes through the Store's cache and past it.
func compareCaches(t *testing.T, v *tree) {
	t.Helper()
	fresh := v.Open(t, meta.Config{CacheRows: -1})
	for ino := meta.Ino(1); ino < 10; ino++ {
		a, err := v.Getattr(bg, ino)
		b, err2 := fresh.Getattr(bg, ino)
		if (err == nil) != (err2 == nil) || err == nil && fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("inode %d: cached %v, %v; stored %v, %v", ino, a, err, b, err2)
		}
	}
}

// TestSharedStore: where others use the store too, a removed inode becomes an orphan first.
func TestSharedStore(t *testing.T) {
	store := &failing{Store: memory.New(), left: -1, shared: true}
	v := &tree{metatest.NewVolumeOn(t, store), t}
	f := v.mk(meta.RootIno, "f", meta.ModeFIFO)
	a, err := v.Unlink(bg, 1, []byte("f"), nil)
	if err != nil || !a.Flags.Orphan() {
		t.Fatalf("%+v, %v", a, err)
	}
	v.attr(f.Ino)
	want(t, "release", v.ReleaseOrphans(bg, f.Ino), nil)
	v.clean()
}
