package local

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// behind opens the Badger of a closed store without its keys, as somebody who has the disk can, and changes it.
func behind(t *testing.T, opts Options, change func(txn *badger.Txn) error) {
	t.Helper()
	full, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	db, err := openBadger(full)
	if err != nil {
		t.Fatal(err)
	}
	txn := db.NewTransactionAt(latest, true)
	defer txn.Discard()
	// The newest timestamp that the store still sees: it reads at that of its last checkpoint.
	stamp := stampOf(t, db, opts)
	if err := change(txn); err != nil {
		t.Fatal(err)
	}
	if err := txn.CommitAt(stamp, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func stampOf(t *testing.T, db *badger.DB, opts Options) uint64 {
	t.Helper()
	key, err := checkpointMACKey(opts.Key, opts.Volume)
	if err != nil {
		t.Fatal(err)
	}
	c, ok, err := readCheckpoint(db, key)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return c.stamp
}

// valueOf reads a row of Badger.
func valueOf(t *testing.T, opts Options, key string) (value []byte) {
	t.Helper()
	behind(t, opts, func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(key))
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	return value
}

// filled makes a closed store of n rows, large enough for several ranges, and returns what is in it.
func filled(t *testing.T, n int) (Options, map[string]string) {
	t.Helper()
	opts := create(t)
	s := open(t, opts)
	for i := range n {
		put(t, s, fmt.Sprintf("row %05d", i), fmt.Sprint("old ", i))
		if i%500 == 499 {
			checkpointNow(t, s)
		}
	}
	rows := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return opts, rows
}

// verifyAll returns what VerifyAll reports.
func verifyAll(t *testing.T, s *Store) (faults []error) {
	t.Helper()
	if err := s.VerifyAll(ctx, func(err error) { faults = append(faults, err) }); err != nil {
		t.Fatal(err)
	}
	return faults
}

// TestRowsBehindTheStoresBack puts back, removes, adds and replaces rows in Badger. Reading them, or where they were or
// are, is refused; other ranges are as they were.
func TestRowsBehindTheStoresBack(t *testing.T) {
	const victim, far = "row 01234", "row 00001"
	for name, attack := range map[string]func(txn *badger.Txn, old []byte) error{
		"older version": func(txn *badger.Txn, old []byte) error { return txn.Set([]byte(victim), old) },
		"removed":       func(txn *badger.Txn, _ []byte) error { return txn.Delete([]byte(victim)) },
		"replaced":      func(txn *badger.Txn, _ []byte) error { return txn.Set([]byte(victim), []byte("made up")) },
		"added":         func(txn *badger.Txn, old []byte) error { return txn.Set([]byte(victim+"x"), old) },
		"moved": func(txn *badger.Txn, old []byte) error {
			return errors.Join(txn.Delete([]byte(victim)), txn.Set([]byte(victim+"x"), []byte("new")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			opts, _ := filled(t, 2000)
			old := valueOf(t, opts, victim)
			s := open(t, opts)
			put(t, s, victim, "new")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			behind(t, opts, func(txn *badger.Txn) error { return attack(txn, old) })
			s = open(t, opts)
			err := s.View(ctx, func(r kv.Reader) error {
				if v, err := r.Get(ctx, []byte(far)); err != nil || string(v[0]) != "old 1" {
					t.Errorf("a row far away: %q, %v", v, err)
				}
				if v, err := r.Get(ctx, []byte(victim)); !errors.Is(err, kv.ErrTampered) || !errors.Is(err, kv.ErrCorrupt) {
					t.Errorf("the row: %q, %v", v, err)
				}
				return r.Scan(ctx, []byte("row 01230"), []byte("row 01240"), 0, func(k, _ []byte) bool { return true })
			})
			if !errors.Is(err, kv.ErrTampered) {
				t.Errorf("scan: %v", err)
			}
			if faults := verifyAll(t, s); len(faults) != 1 || !errors.Is(faults[0], kv.ErrTampered) {
				t.Errorf("verify all: %v", faults)
			}
			// Writing over it does not launder it.
			put(t, s, victim, "newer")
			checkpointNow(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, opts)
			if faults := verifyAll(t, s); len(faults) != 1 {
				t.Errorf("after a checkpoint over it: %v", faults)
			}
		})
	}
}

// TestRangeEmptied removes all rows of several ranges: a scan over the gap is refused, one that ends before is not.
func TestRangeEmptied(t *testing.T) {
	opts, _ := filled(t, 2000)
	behind(t, opts, func(txn *badger.Txn) error {
		for i := 500; i < 1500; i++ {
			if err := txn.Delete(fmt.Appendf(nil, "row %05d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	s := open(t, opts)
	scan := func(lo, hi string, limit int) (n int, err error) {
		err = s.View(ctx, func(r kv.Reader) error {
			return r.Scan(ctx, []byte(lo), []byte(hi), limit, func(k, _ []byte) bool { n++; return true })
		})
		return n, err
	}
	if n, err := scan("row 00000", "row 00200", 0); n != 200 || err != nil {
		t.Errorf("before the gap: %d, %v", n, err)
	}
	if n, err := scan("row 00600", "row 01400", 0); n != 0 || !errors.Is(err, kv.ErrTampered) {
		t.Errorf("within the gap: %d, %v", n, err)
	}
	if n, err := scan("row 00000", "row 99999", 0); n == 1000 || !errors.Is(err, kv.ErrTampered) {
		t.Errorf("over the gap: %d, %v", n, err)
	}
	if n, err := scan("row 01800", "row 99999", 0); n != 200 || err != nil {
		t.Errorf("behind the gap: %d, %v", n, err)
	}
}

// TestTableBehindTheStoresBack changes the table itself and the checkpoint row.
func TestTableBehindTheStoresBack(t *testing.T) {
	opts, _ := filled(t, 2000)
	older := map[string][]byte{}
	for _, k := range []string{string(rootKey), string(chunkKey(0)), string(checkpointKey)} {
		older[k] = valueOf(t, opts, k)
	}
	s := open(t, opts)
	put(t, s, "row 00000", "new")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	head := s.Head()
	for name, c := range map[string]struct {
		keys []string
		open error // what Open says; nil: it opens
	}{
		"root":                           {[]string{string(rootKey)}, kv.ErrTampered},
		"root and chunk":                 {[]string{string(rootKey), string(chunkKey(0))}, kv.ErrTampered},
		"root, chunk and checkpoint row": {[]string{string(rootKey), string(chunkKey(0)), string(checkpointKey)}, kv.ErrRollback},
		"chunk":                          {[]string{string(chunkKey(0))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			again := copyStore(t, opts)
			again.Head = head
			behind(t, again, func(txn *badger.Txn) error {
				for _, k := range c.keys {
					if err := txn.Set([]byte(k), older[k]); err != nil {
						return err
					}
				}
				return nil
			})
			s, err := Open(ctx, again)
			if c.open != nil {
				if err == nil {
					s.Close()
				}
				if !errors.Is(err, c.open) && !errors.Is(err, kv.ErrCorrupt) {
					t.Fatalf("opens: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if faults := verifyAll(t, s); len(faults) == 0 {
				t.Error("an older chunk is accepted")
			}
		})
	}
}

// TestTableFollowsTheRows runs random changes, checkpoints, clean and unclean openings, and finds every row in its place: no false alarm, and the
// table neither decays into one range nor into ranges of one row.
func TestTableFollowsTheRows(t *testing.T) {
	r := rand.New(rand.NewPCG(77, 1))
	opts := create(t)
	want := map[string]string{}
	s := open(t, opts)
	for round := range rounds(12, 100) {
		for range 60 {
			_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
				for range 1 + r.IntN(20) {
					k := fmt.Sprintf("%c%04d", 'a'+r.IntN(3), r.IntN(3000))
					if round%4 == 3 && r.IntN(3) > 0 {
						x.Delete([]byte(k))
						delete(want, k)
						continue
					}
					v := strings.Repeat("v", 1+r.IntN(30)) + fmt.Sprint(round)
					x.Put([]byte(k), []byte(v))
					want[k] = v
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if r.IntN(20) == 0 {
				checkpointNow(t, s)
			}
		}
		switch r.IntN(3) {
		case 0:
			opts = copyStore(t, opts) // as a killed process leaves it
			s = open(t, opts)
		case 1:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, opts)
		}
		if faults := verifyAll(t, s); len(faults) != 0 {
			t.Fatalf("round %d: %v", round, faults)
		}
		if got := dump(t, s); !maps.Equal(got, want) {
			t.Fatalf("round %d: %d rows, want %d", round, len(got), len(want))
		}
	}
	checkpointNow(t, s)
	ranges := 0
	for _, c := range s.base.table.chunks {
		spans, err := s.base.table.load(s.base, c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range spans.len() {
			if n := spans.at(i).rows; n > maxRows {
				t.Errorf("range with %d rows", n)
			}
		}
		ranges += spans.len()
	}
	if low, high := len(want)/maxRows, len(want)/4; ranges < low || ranges > high {
		t.Errorf("%d rows in %d ranges", len(want), ranges)
	}
	if len(s.stamps) != 1 {
		t.Errorf("bases in use: %v", s.stamps)
	}
}

// TestChunksSplit makes more ranges than a chunk holds, and takes them away again.
func TestChunksSplit(t *testing.T) {
	opts := create(t)
	opts.MaxJournal = 64 << 20
	opts.SegmentSize = 4 << 20
	s := open(t, opts)
	const n = 60000
	fill := func(del bool) {
		for lo := 0; lo < n; lo += 5000 {
			_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
				for i := lo; i < lo+5000; i++ {
					if del {
						x.Delete(fmt.Appendf(nil, "k%08d", i))
					} else {
						x.Put(fmt.Appendf(nil, "k%08d", i), []byte("v"))
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		checkpointNow(t, s)
	}
	fill(false)
	if chunks := len(s.base.table.chunks); chunks < n/splitRows/maxRanges || chunks > n/maxRows*4/maxRanges {
		t.Errorf("%d chunks for %d rows", chunks, n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	if faults := verifyAll(t, s); len(faults) != 0 {
		t.Fatal(faults)
	}
	fill(true)
	if chunks := len(s.base.table.chunks); chunks != 1 {
		t.Errorf("%d chunks for no rows", chunks)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	if faults := verifyAll(t, s); len(faults) != 0 {
		t.Fatal(faults)
	}
	if got := dump(t, s); len(got) != 0 {
		t.Errorf("%d rows are left", len(got))
	}
}

// TestChunksTakeTurns reads and changes a store that may hold two chunks in memory and has more: what was dropped is read and verified again, and a row that is put
// back is found also then.
func TestChunksTakeTurns(t *testing.T) {
	const n = 12000
	opts := create(t)
	opts.MaxJournal, opts.SegmentSize = 64<<20, 4<<20
	s := open(t, opts)
	fill := func(lo, hi int, value string) {
		_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
			for i := lo; i < hi; i++ {
				x.Put(fmt.Appendf(nil, "row %05d", i), []byte(value))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for lo := 0; lo < n; lo += 4000 {
		fill(lo, lo+4000, "old")
	}
	checkpointNow(t, s)
	if chunks := len(s.base.table.chunks); chunks < 4 {
		t.Fatalf("%d chunks", chunks)
	}
	inMemory := func() (k int) {
		for _, c := range s.base.table.chunks {
			if c.spans.Load() != nil {
				k++
			}
		}
		return k
	}
	r := rand.New(rand.NewPCG(5, 5))
	look := func() {
		for range 300 {
			key := fmt.Appendf(nil, "row %05d", r.IntN(n))
			err := s.View(ctx, func(r kv.Reader) error {
				v, err := r.Get(ctx, key)
				if err == nil && v[0] == nil {
					err = fmt.Errorf("%s is missing", key)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	s.base.table.keys.loaded.limit = 2
	look()
	if k := inMemory(); k > 2 {
		t.Errorf("%d chunks in memory", k)
	}
	for i := range 20 { // a chunk that is changed again and again takes one place
		fill(i, i+1, "newer")
		checkpointNow(t, s)
		look()
	}
	if k, kept := inMemory(), len(s.base.table.keys.loaded.all); k > 2 || kept > 2 {
		t.Errorf("%d chunks in memory, %d kept", k, kept)
	}
	if faults := verifyAll(t, s); len(faults) != 0 {
		t.Error(faults)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	behind(t, opts, func(txn *badger.Txn) error { return txn.Set([]byte("row 00003"), []byte("old")) })
	s = open(t, opts)
	s.base.table.keys.loaded.limit = 2
	for range 2 {
		look1 := s.View(ctx, func(r kv.Reader) error { _, err := r.Get(ctx, []byte("row 00003")); return err })
		if !errors.Is(look1, kv.ErrTampered) {
			t.Errorf("a row that was put back: %v", look1)
		}
		if faults := verifyAll(t, s); len(faults) != 1 { // goes through all chunks
			t.Error(faults)
		}
	}
}

// TestShortStarts: a range starts behind the row before it, and not behind its own first.
func TestShortStarts(t *testing.T) {
	for _, c := range []struct{ last, k, want string }{
		{"", "a", "a"}, {"a", "b", "b"}, {"a", "aa", "aa"}, {"row 00119", "row 00120", "row 0012"}, {"abcdef", "b", "b"}, {"abc\x00", "abc\x01zzz", "abc\x01"},
	} {
		if got := string(between([]byte(c.last), []byte(c.k))); got != c.want || got <= c.last || got > c.k {
			t.Errorf("between %q and %q: %q, want %q", c.last, c.k, got, c.want)
		}
	}
}

func FuzzOpenChunk(f *testing.F) {
	key := testOptions("").Key
	keys, err := newFreshKeys(key, testOptions("").Volume)
	if err != nil {
		f.Fatal(err)
	}
	good, _, err := keys.sealChunk(3, []keyRange{{}, {start: []byte("k"), rows: 7}})
	if err != nil {
		f.Fatal(err)
	}
	plain, err := keys.sealer.Open(nil, good, chunkKey(3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte{})
	f.Add([]byte{1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed, err := keys.sealer.Seal(nil, plain, chunkKey(3))
		if err != nil {
			t.Skip()
		}
		spans, err := keys.openChunk(sealed, &chunk{id: 3, tag: tagOf(sealed)})
		if err != nil {
			return
		}
		var all []keyRange
		for i := range spans.len() {
			all = append(all, spans.at(i))
		}
		again, _, err := keys.sealChunk(3, all)
		if err != nil {
			t.Fatal(err)
		}
		back, err := keys.sealer.Open(nil, again, chunkKey(3))
		if err != nil || string(back) != string(plain) {
			t.Errorf("%x became %x (%v)", plain, back, err)
		}
	})
}
