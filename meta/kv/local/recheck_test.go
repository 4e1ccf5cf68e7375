package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// rowName is the key of row i of goneBad.
func rowName(i int) string { return fmt.Sprintf("row %05d", i) }

// goneBad returns an open store of 400 verified rows, and a function that changes a byte of a row in its table: off from the start of the value.
func goneBad(t *testing.T) (s *Store, opts Options, flip func(i, off int)) {
	t.Helper()
	opts = create(t)
	s = open(t, opts)
	value := func(i int) string { return fmt.Sprintf("the value of row %05d", i) }
	for i := range 400 {
		put(t, s, rowName(i), value(i))
	}
	for range 5 { // several tables, to be merged
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, opts)
		for i := 0; i < 400; i += 50 {
			put(t, s, rowName(i), "newer")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	if rows := dump(t, s); len(rows) != 400 {
		t.Fatalf("%d rows", len(rows))
	}
	return s, opts, func(i, off int) { flipIn(t, opts, []byte(value(i)), off) }
}

// bad is the row that goes bad.
const bad = 211

// inKey is where the last byte of a key lies, from the start of its value: before a timestamp, meta, user meta and expiry.
const inKey = -(8 + 3 + 1)

// TestMergedWithBadRow has tables merged of which a byte has changed: what is lost is a row, not the block and all that follows it in its table.
func TestMergedWithBadRow(t *testing.T) {
	for what, off := range map[string]int{"value": 0, "key": inKey} {
		s, opts, flip := goneBad(t)
		flip(bad, off)
		if err := s.db.Flatten(1); err != nil {
			t.Fatal(err)
		}
		gone := 0
		for i := range 400 {
			err := s.View(ctx, func(r kv.Reader) error {
				v, err := r.Get(ctx, []byte(rowName(i)))
				if err == nil && v[0] == nil {
					gone++
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: row %d: %v", what, i, err)
			}
		}
		if gone > 9 || what == "value" && gone > 0 { // a key out of order hides those up to where it would be, if a search comes by it
			t.Errorf("%s: %d rows are gone", what, gone)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s, err := Open(ctx, opts)
		if errors.Is(err, kv.ErrCorrupt) && what == "key" {
			continue // keys out of order
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if faults := verifyAll(t, s); len(faults) != 1 {
			t.Errorf("%s: %d ranges are wrong, want 1: %v", what, len(faults), faults)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRowGoesBad changes the key of a row in a table below an open store whose rows have been verified. It must not be taken for absent once the
// verification is old, neither for itself nor in a scan, nor by a split.
func TestRowGoesBad(t *testing.T) {
	s, opts, flip := goneBad(t)
	flip(bad, inKey)
	get := func(i int) (v []byte, err error) {
		err = s.View(ctx, func(r kv.Reader) error {
			vs, err := r.Get(ctx, []byte(rowName(i)))
			if err == nil {
				v = vs[0]
			}
			return err
		})
		return v, err
	}
	if v, err := get(bad); v != nil || err != nil {
		t.Logf("a verification that is young: %q, %v", v, err)
	}
	s.base.table.keys.good = noAge // as if it were old
	if v, err := get(bad); !errors.Is(err, kv.ErrTampered) {
		t.Errorf("row %d: %q, %v", bad, v, err)
	}
	if v, err := get(10); err != nil || v == nil {
		t.Errorf("row 10, of another range: %q, %v", v, err)
	}
	if err := s.View(ctx, func(r kv.Reader) error { return r.Scan(ctx, nil, nil, 0, func(k, v []byte) bool { return true }) }); !errors.Is(err, kv.ErrTampered) {
		t.Errorf("scan: %v", err)
	}
	for i := range 200 { // the ranges are split
		put(t, s, rowName(i)+" b", "more")
		put(t, s, rowName(200+i)+" b", "more")
	}
	checkpointNow(t, s)
	if faults := verifyAll(t, s); len(faults) == 0 {
		t.Error("after a split nothing is missed")
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if s, err := Open(ctx, opts); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("it opens again: %v", err)
		s.Close()
	}
}

// flipIn changes the byte off from where text begins in Badger's tables, in the files that are mapped.
func flipIn(t *testing.T, opts Options, text []byte, off int) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(metaDir(opts), "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, text)
		if at < 0 {
			continue
		}
		found++
		f, err := os.OpenFile(table, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{b[at+off] ^ 0x40}, int64(at+off))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Fatalf("%q is in no table", text)
	}
}
