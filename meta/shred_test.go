package meta_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/kvtest"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// TestShredLeavesNoWrap: the rows with a file's wraps, each version of them, are in the files of the volume until it is removed and these are scrubbed, and in none
// afterwards. The rows are sealed: what is looked for is what lies there.
func TestShredLeavesNoWrap(t *testing.T) {
	v, dir := newLocalTreeIn(t)
	f, kept := v.file(meta.RootIno, "f"), v.file(meta.RootIno, "kept")
	var sealed [][]byte
	note := func() {
		t.Helper()
		err := v.KV.View(bg, func(r kv.Reader) error {
			vals, err := r.Get(bg, binary.BigEndian.AppendUint64([]byte{'A'}, uint64(f.Ino)))
			if err == nil {
				sealed = append(sealed, bytes.Clone(vals[0]))
			}
			return err
		})
		want(t, "read row", err, nil)
	}
	note()
	store := v.KV.(*local.Store)
	for i := range 4 { // other wraps of the same key, and another key
		want(t, "checkpoint", store.Checkpoint(bg), nil)
		_, err := v.Rename(bg, meta.RootIno, []byte("f"), meta.RootIno, []byte("g"), 0, nil)
		want(t, "rename", err, nil)
		note()
		if i == 1 {
			_, err := v.Update(bg, func(tx *meta.Tx) error {
				a, err := tx.Attr(f.Ino)
				if err != nil {
					return err
				}
				dek, err := v.AddEpoch(tx, a)
				if err == nil {
					dek.Wipe()
				}
				return err
			})
			want(t, "epoch", err, nil)
			note()
		}
		_, err = v.Rename(bg, meta.RootIno, []byte("g"), meta.RootIno, []byte("f"), 0, nil)
		want(t, "rename", err, nil)
		note()
	}
	for i, row := range sealed {
		if len(kvtest.FilesWith(t, dir, row)) == 0 {
			t.Errorf("version %d of the row is nowhere: the search shows nothing", i)
		}
	}
	_, err := v.Unlink(bg, meta.RootIno, []byte("f"), nil)
	want(t, "unlink", err, nil)
	want(t, "scrub", store.Scrub(bg), nil)
	for i, row := range sealed {
		if found := kvtest.FilesWith(t, dir, row); found != nil {
			t.Errorf("version %d of the row is in %q", i, found)
		}
	}
	openKey(t, v.ID, v.Store, v.attr(kept.Ino))
	v.clean()
}
