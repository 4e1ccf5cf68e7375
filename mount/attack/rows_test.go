package attack

import (
	"bytes"
	"encoding/binary"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// rows are all rows of a volume's Badger, as somebody without keys sees them.
type rows map[string][]byte

// openRows opens a volume's Badger as anybody can, and returns it with the newest timestamp that is in it: the checkpoint row's.
func openRows(t *testing.T, volume string) (*badger.DB, uint64) {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(filepath.Join(volume, "meta")).
		WithLogger(nil).WithMemTableSize(8 << 20).WithValueThreshold(1 << 20).WithCompression(options.None).WithNumCompactors(0))
	if err != nil {
		t.Fatal(err)
	}
	return db, db.MaxVersion()
}

// readRows returns the rows of a volume that nobody has open.
func readRows(t *testing.T, volume string) rows {
	t.Helper()
	db, now := openRows(t, volume)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	out := rows{}
	txn := db.NewTransactionAt(now, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.DefaultIteratorOptions)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		v, err := it.Item().ValueCopy(nil)
		if err != nil {
			t.Fatal(err)
		}
		out[string(it.Item().KeyCopy(nil))] = v
	}
	return out
}

const checkpointRow = "\x00checkpoint"

// stamp returns the timestamp at which rows are read: it stands in the checkpoint row (docs/FORMAT.md 9.2).
func (r rows) stamp() uint64 { return binary.BigEndian.Uint64([]byte(r[checkpointRow])[36:]) }

// writeRows puts rows into a volume that nobody has open, and removes those without a value.
func writeRows(t *testing.T, volume string, changes rows) {
	t.Helper()
	stamp := readRows(t, volume).stamp()
	db, now := openRows(t, volume)
	batch := db.NewManagedWriteBatch()
	for _, k := range slices.Sorted(maps.Keys(changes)) {
		at := stamp
		if k == checkpointRow {
			at = now
		}
		var err error
		if v := changes[k]; v != nil {
			err = batch.SetEntryAt(badger.NewEntry([]byte(k), v), at)
		} else {
			err = batch.DeleteAt([]byte(k), at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// key returns the key of a row: a kind and numbers of eight bytes.
func key(kind byte, numbers ...uint64) string {
	b := []byte{kind}
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return string(b)
}

// of returns the keys of a kind that begin with these numbers, ascending.
func (r rows) of(kind byte, numbers ...uint64) (keys []string) {
	prefix := []byte(key(kind, numbers...))
	for k := range r {
		if bytes.HasPrefix([]byte(k), prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// one returns the only key of a kind that begins with these numbers.
func (r rows) one(t *testing.T, kind byte, numbers ...uint64) string {
	t.Helper()
	keys := r.of(kind, numbers...)
	if len(keys) != 1 {
		t.Fatalf("%d rows %c of %v", len(keys), kind, numbers)
	}
	return keys[0]
}
