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
			_, err := v.Update(bg, v.epochOf(f.Ino))
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

// TestRowPutBack says what the row of a removed file is worth to who puts it back past everything that refuses it (freshness): its data key opens as long as the zone's key is the one of then, and not
// after a deep rewrap.
func TestRowPutBack(t *testing.T) {
	for _, deep := range []bool{false, true} {
		v := newTree(t)
		f := v.file(meta.RootIno, "f")
		v.file(meta.RootIno, "kept")
		row := binary.BigEndian.AppendUint64([]byte{'A'}, uint64(f.Ino))
		var sealed []byte
		err := v.KV.View(bg, func(r kv.Reader) error {
			vals, err := r.Get(bg, row)
			if err == nil {
				sealed = bytes.Clone(vals[0])
			}
			return err
		})
		want(t, "read row", err, nil)
		_, err = v.Unlink(bg, meta.RootIno, []byte("f"), nil)
		want(t, "unlink", err, nil)
		if deep {
			v.deepRewrap()
		}
		_, err = v.KV.Update(bg, kv.OpID{}, func(tx kv.Txn) error { tx.Put(row, sealed); return nil })
		want(t, "put back", err, nil)
		a, err := v.Getattr(bg, f.Ino)
		want(t, "getattr", err, nil)
		dek, err := v.UnwrapDEK(bg, a, a.Epoch)
		if !deep {
			want(t, "its key before a deep rewrap", err, nil)
			dek.Wipe()
			continue
		}
		if err == nil {
			t.Error("after a deep rewrap the key of a row that is put back opens")
		}
		t.Log("after a deep rewrap:", err)
	}
}

// epochOf gives a file another data key.
func (v *tree) epochOf(ino meta.Ino) func(*meta.Tx) error {
	return func(tx *meta.Tx) error {
		a, err := tx.Attr(ino)
		if err != nil {
			return err
		}
		dek, err := v.AddEpoch(tx, a)
		if err == nil {
			dek.Wipe()
		}
		return err
	}
}

// deepRewrap gives the root zone another key, and forgets the one it had.
func (v *tree) deepRewrap() {
	t := v.t
	t.Helper()
	next := v.rotate(meta.RootZone, v.ZoneKey)
	want(t, "quiesce", v.Quiesce(bg), nil)
	for more, after := true, meta.Ino(0); more; {
		step, err := v.RewrapKeys(bg, meta.RootZone, after)
		want(t, "step", err, nil)
		after, more = step.Next, step.More
	}
	want(t, "drop", v.DropFormer(bg, meta.RootZone), nil)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "zone", err, nil)
	alone, err := z.Keys(v.ID, next)
	want(t, "keys", err, nil)
	v.Keyring.Add(meta.RootZone, alone)
}
