package meta_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// forgetful settles images by forgetting them: these tests have no objects.
type forgetful struct{}

func (forgetful) JournalOnly(key []byte) bool                  { return meta.JournalOnly(key) }
func (forgetful) Settle(context.Context, []byte, []byte) error { return nil }
func (forgetful) Sync(context.Context) error                   { return nil }

// newLocalTree is newTree on the store that volumes use.
func newLocalTree(t *testing.T) *tree {
	t.Helper()
	v, _ := newLocalTreeIn(t)
	return v
}

// newLocalTreeIn also returns the directory that everything lies in. There is an export.
func newLocalTreeIn(t *testing.T) (v *tree, dir string) {
	t.Helper()
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	opt := local.Options{Dir: t.TempDir(), Key: key, Settler: forgetful{}, MinFree: -1, Export: true}
	want(t, "create", local.Create(bg, opt), nil)
	store, err := local.Open(bg, opt)
	want(t, "open", err, nil)
	t.Cleanup(func() { want(t, "close", store.Close(), nil) })
	return &tree{metatest.NewVolumeOn(t, store), t}, opt.Dir
}

// TestOnLocal uses the store that volumes use: everything is there after it was closed and opened again, with and without a checkpoint.
func TestOnLocal(t *testing.T) {
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	opt := local.Options{Dir: t.TempDir(), Key: key, Settler: forgetful{}, MinFree: -1}
	want(t, "create", local.Create(bg, opt), nil)
	store, err := local.Open(bg, opt)
	want(t, "open", err, nil)
	v := &tree{metatest.NewVolumeOn(t, store), t}
	d := v.dir(meta.RootIno, "d")
	for i := range 200 {
		f := v.file(d.Ino, fmt.Sprint("f", i))
		if i%3 == 0 {
			_, err := v.Link(bg, f.Ino, 1, fmt.Append(nil, "l", i))
			want(t, "link", err, nil)
		}
		if i == 100 {
			want(t, "checkpoint", store.Checkpoint(bg), nil)
		}
	}
	v.clean()
	want(t, "close", store.Close(), nil)

	recovery, err := meta.NewRecovery(v.ID, v.RowsKey)
	want(t, "recovery", err, nil)
	opt.Replay = func(r local.Record) error {
		return recovery.Replay(func(yield func(k, v []byte) bool) {
			for _, p := range r.Puts {
				if !yield(p.Key, p.Value) {
					return
				}
			}
		}, r.Deletes, r.Before)
	}
	store, err = local.Open(bg, opt)
	want(t, "open again", err, nil)
	defer store.Close()
	v.KV = store
	v.Store = v.Open(t, meta.Config{})
	if list, err := v.ReadDirPlus(bg, d.Ino, 0, 1000); err != nil || len(list) != 200 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	v.clean()
}
