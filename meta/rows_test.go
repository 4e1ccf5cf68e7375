package meta_test

import (
	"bytes"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// row is a row as it lies in the store.
type row struct{ key, value []byte }

// rows returns all rows of a kind; 0 is all.
func rows(t testing.TB, store kv.Store, kind byte) []row {
	t.Helper()
	lo, hi := []byte{kind}, []byte{kind + 1}
	if kind == 0 {
		lo, hi = []byte{1}, nil
	}
	var list []row
	err := store.View(bg, func(r kv.Reader) error {
		return r.Scan(bg, lo, hi, 0, func(k, v []byte) bool {
			list = append(list, row{bytes.Clone(k), bytes.Clone(v)})
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func countRows(t testing.TB, store kv.Store, kind byte) int { return len(rows(t, store, kind)) }

// putRow writes a row behind meta's back; an empty value deletes it.
func putRow(t testing.TB, store kv.Store, key, value []byte) {
	t.Helper()
	_, err := store.Update(bg, kv.OpID{}, func(tx kv.Txn) error {
		if len(value) == 0 {
			tx.Delete(key)
		} else {
			tx.Put(key, bytes.Clone(value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reseal replaces the plaintext of a row that is sealed under the rows key.
func reseal(t testing.TB, v *metatest.Volume, key []byte, change func(plain []byte) []byte) {
	t.Helper()
	sealer, err := blockcrypt.NewSealer(v.RowsKey)
	if err != nil {
		t.Fatal(err)
	}
	var plain []byte
	err = v.KV.View(bg, func(r kv.Reader) error {
		vals, err := r.Get(bg, key)
		if err != nil || vals[0] == nil {
			return err
		}
		plain, err = sealer.Open(nil, vals[0], blockcrypt.RowAAD(v.ID, key))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealer.Seal(nil, change(plain), blockcrypt.RowAAD(v.ID, key))
	if err != nil {
		t.Fatal(err)
	}
	putRow(t, v.KV, key, sealed)
	v.Store = v.Open(t, meta.Config{})
}

// inodeKey is the key of a row that has an inode number alone.
func inodeKey(kind byte, ino meta.Ino) []byte {
	return append([]byte{kind}, beUint64(uint64(ino))...)
}

func beUint64(n uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[7-i] = byte(n)
		n >>= 8
	}
	return b
}

// offNlink is where an inode row has its link count (docs/FORMAT.md, section 7).
const offNlink = 1 + 2 + 4 + 4 + 4

func setNlink(t testing.TB, v *metatest.Volume, ino meta.Ino, n uint32) {
	t.Helper()
	reseal(t, v, inodeKey('A', ino), func(plain []byte) []byte {
		copy(plain[offNlink:], beUint64(uint64(n))[4:])
		return plain
	})
}
