package meta_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func (v *tree) update(what string, fn func(tx *meta.Tx) error) {
	v.t.Helper()
	_, err := v.Update(bg, fn)
	want(v.t, what, err, nil)
}

func (v *tree) view(fn func(tx *meta.Tx) error) {
	v.t.Helper()
	want(v.t, "view", v.View(bg, fn), nil)
}

func TestMapRows(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	full := meta.Entry{Present: true, Epoch: 1, PlainLen: 4096, StoredLen: 4096, CRC: 9}
	v.update("put", func(tx *meta.Tx) error {
		if m, err := tx.MapRow(f.Ino, 2); m != nil || err != nil {
			t.Errorf("before: %v, %v", m, err)
		}
		m := &meta.MapRow{1: full}
		if err := tx.PutMapRow(f.Ino, 2, m); err != nil {
			return err
		}
		m[1].CRC = 7 // it was copied
		got, err := tx.MapRow(f.Ino, 2)
		if err != nil || got[1] != full {
			t.Errorf("own write: %v, %v", got, err)
		}
		got[1].CRC = 8 // private
		return tx.PutMapRow(f.Ino, 5, &meta.MapRow{31: full})
	})
	scan := func(from uint64) (rows []uint64) {
		v.view(func(tx *meta.Tx) error {
			return tx.ScanMap(f.Ino, from, func(row uint64, m *meta.MapRow) bool { rows = append(rows, row); return len(rows) < 2 })
		})
		return rows
	}
	for from, wantRows := range map[uint64]string{0: "[2 5]", 3: "[5]", 6: "[]"} {
		if got := fmt.Sprint(scan(from)); got != wantRows {
			t.Errorf("scan from %d: %s, want %s", from, got, wantRows)
		}
	}
	v.view(func(tx *meta.Tx) error {
		m, err := tx.MapRow(f.Ino, 2)
		if err != nil || m[1] != full || m[0].Present {
			t.Errorf("read: %v, %v", m, err)
		}
		return nil
	})
	v.update("delete", func(tx *meta.Tx) error {
		if err := tx.DeleteMapRow(f.Ino, 2); err != nil {
			return err
		}
		if m, err := tx.MapRow(f.Ino, 2); m != nil || err != nil {
			t.Errorf("deleted: %v, %v", m, err)
		}
		if err := tx.DeleteMapRow(f.Ino, 77); err != nil {
			return err
		}
		return tx.PutMapRow(f.Ino, 5, &meta.MapRow{}) // holes only: the row goes
	})
	if n := countRows(t, v.KV, 'C'); n != 0 {
		t.Fatalf("%d map rows left", n)
	}
	_, err := v.Update(bg, func(tx *meta.Tx) error { return tx.PutMapRow(f.Ino, 0, &meta.MapRow{{Present: true}}) })
	want(t, "invalid entry", err, meta.ErrInvalid)
}

func TestImages(t *testing.T) {
	v := newTree(t)
	image := func(fill byte) []byte { return bytes.Repeat([]byte{fill}, meta.ImageHeader+1) }
	v.update("put", func(tx *meta.Tx) error {
		for _, b := range []uint64{1, 5, 9} {
			if err := tx.PutImage(7, b, image(byte(b))); err != nil {
				return err
			}
		}
		want(t, "empty", tx.PutImage(7, 1, make([]byte, meta.ImageHeader)), meta.ErrInvalid)
		want(t, "too long", tx.PutImage(7, 1, make([]byte, meta.MaxImage+1)), meta.ErrInvalid)
		return tx.PutImage(8, 0, image(0))
	})
	v.update("delete", func(tx *meta.Tx) error { return tx.DeleteImage(7, 9) })
	v.view(func(tx *meta.Tx) error {
		for b, present := range map[uint64]bool{1: true, 2: false, 9: false} {
			got, err := tx.Image(7, b)
			if err != nil || (got != nil) != present || present && !bytes.Equal(got, image(byte(b))) {
				t.Errorf("block %d: %x, %v", b, got, err)
			}
		}
		for _, c := range []struct {
			from, to uint64
			want     string
		}{{0, 10, "[1 5]"}, {1, 5, "[1]"}, {2, 6, "[5]"}, {6, 99, "[]"}, {5, 5, "[]"}, {9, 1, "[]"}} {
			got := []uint64{}
			err := tx.ScanImages(7, c.from, c.to, func(b uint64, _ []byte) bool { got = append(got, b); return true })
			if err != nil || fmt.Sprint(got) != c.want {
				t.Errorf("scan [%d, %d): %v, %v, want %s", c.from, c.to, got, err, c.want)
			}
		}
		return nil
	})
}

func TestInline(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	sealed := bytes.Repeat([]byte{3}, 40)
	v.update("put", func(tx *meta.Tx) error { return tx.PutInline(f.Ino, meta.Inline{Epoch: 1, Sealed: sealed}) })
	v.view(func(tx *meta.Tx) error {
		in, err := tx.Inline(f.Ino)
		if err != nil || in.Epoch != 1 || !bytes.Equal(in.Sealed, sealed) {
			t.Errorf("%+v, %v", in, err)
		}
		return nil
	})
	v.clean()
	for _, in := range []meta.Inline{{Epoch: 1, Sealed: sealed[:27]}, {Epoch: 1, Sealed: make([]byte, 130<<10)}, {Epoch: 1, Codec: 1, Sealed: sealed}} {
		_, err := v.Update(bg, func(tx *meta.Tx) error { return tx.PutInline(f.Ino, in) })
		want(t, fmt.Sprintf("%d bytes, codec %d", len(in.Sealed), in.Codec), err, meta.ErrInvalid)
	}
	v.update("delete", func(tx *meta.Tx) error { return tx.DeleteInline(f.Ino) })
	v.view(func(tx *meta.Tx) error {
		if in, err := tx.Inline(f.Ino); in != nil || err != nil {
			t.Errorf("deleted: %+v, %v", in, err)
		}
		return nil
	})
	// Of a removed file the inline row goes, too.
	v.update("put", func(tx *meta.Tx) error { return tx.PutInline(f.Ino, meta.Inline{Epoch: 1, Sealed: sealed}) })
	_, err := v.Unlink(bg, meta.RootIno, []byte("f"), nil)
	want(t, "unlink", err, nil)
	if n := countRows(t, v.KV, 'I'); n != 0 {
		t.Fatalf("%d inline rows left", n)
	}
}

func TestGarbage(t *testing.T) {
	v := newTree(t)
	all := []meta.Garbage{
		{Ino: 5, Serial: 1},
		{Ino: 5, Serial: 1, Op: meta.GarbagePunch, First: 0, Count: 3},
		{Ino: 5, Serial: 1, Op: meta.GarbagePunch, First: 9, Count: meta.ToEnd},
		{Ino: 5, Serial: 2},
		{Ino: 6, Serial: 1},
	}
	v.update("put", func(tx *meta.Tx) error {
		for i := len(all) - 1; i >= 0; i-- {
			if err := tx.PutGarbage(all[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for i := -1; i < len(all); i++ {
		var after meta.Garbage
		if i >= 0 {
			after = all[i]
		}
		got := []meta.Garbage{}
		v.view(func(tx *meta.Tx) error {
			return tx.ScanGarbage(after, func(g meta.Garbage) bool { got = append(got, g); return true })
		})
		if fmt.Sprint(got) != fmt.Sprint(all[i+1:]) {
			t.Errorf("after %v: %v", after, got)
		}
	}
	v.clean()
	v.update("delete", func(tx *meta.Tx) error {
		for _, g := range all {
			if err := tx.DeleteGarbage(g); err != nil {
				return err
			}
		}
		return nil
	})
	if n := countRows(t, v.KV, 'G'); n != 0 {
		t.Fatalf("%d records left", n)
	}
	for _, g := range []meta.Garbage{{}, {Ino: 1}, {Serial: 1}, {Ino: 1, Serial: 1, Op: 2}, {Ino: 1, Serial: 1, Count: 1},
		{Ino: 1, Serial: 1, Op: meta.GarbagePunch}, {Ino: 1, Serial: 1, Op: meta.GarbagePunch, First: 2, Count: meta.ToEnd - 1}} {
		_, err := v.Update(bg, func(tx *meta.Tx) error { return tx.PutGarbage(g) })
		want(t, fmt.Sprint(g), err, meta.ErrInvalid)
	}
}
