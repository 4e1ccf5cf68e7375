// Package kvtest is the suite that every kv.Store must pass: the contract case by case, random
// transactions against a map, and concurrent transfers with an invariant.
//
// It knows the contract only. Random cases print their seed when they fail.
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Run runs the suite. open returns an empty store; Run closes it (or the test leaves it closed), and open
// registers whatever else is to be cleaned up with t.
func Run(t *testing.T, open func(t *testing.T) kv.Store) {
	cases := []struct {
		name string
		test func(t *testing.T, s kv.Store)
	}{
		{"empty", testEmpty},
		{"put get delete", testPutGetDelete},
		{"several keys", testGetMany},
		{"own writes", testOwnWrites},
		{"own writes in a scan", testOwnWritesInScan},
		{"scan bounds", testScanBounds},
		{"scan deletes while it runs", testScanDelete},
		{"error changes nothing", testError},
		{"no change, no revision", testNoChange},
		{"snapshot", testSnapshot},
		{"lost update", testLostUpdate},
		{"write skew", testWriteSkew},
		{"phantom", testPhantom},
		{"read but gone", testReadGone},
		{"limits", testLimits},
		{"invalid", testInvalid},
		{"buffers of the caller", testBuffers},
		{"large transaction", testLargeTxn},
		{"cancelled", testCancelled},
		{"sync", testSync},
		{"closed", testClosed},
		{"starving", testStarving},
		{"transfers", testTransfers},
		{"readers see one revision", testReaders},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.test(t, s)
			if err := s.Close(); err != nil && !errors.Is(err, kv.ErrClosed) {
				t.Fatalf("close: %v", err)
			}
		})
	}
	t.Run("model", func(t *testing.T) { testModel(t, open) })
}

var background = context.Background()

// update runs a transaction that must succeed.
func update(t *testing.T, s kv.Store, fn func(kv.Txn) error) kv.Rev {
	t.Helper()
	rev, err := s.Update(background, kv.OpID{}, fn)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return rev
}

// put sets one row.
func put(t *testing.T, s kv.Store, k, v string) kv.Rev {
	t.Helper()
	return update(t, s, func(x kv.Txn) error {
		x.Put([]byte(k), []byte(v))
		return nil
	})
}

// get reads one key of a reader; "" stands for absent.
func get(t *testing.T, r kv.Reader, k string) string {
	t.Helper()
	values, err := r.Get(background, []byte(k))
	if err != nil {
		t.Fatalf("get %q: %v", k, err)
	}
	if len(values) != 1 {
		t.Fatalf("get %q: %d values", k, len(values))
	}
	return string(values[0])
}

// scan returns what a Scan shows as "k=v" strings.
func scan(t *testing.T, r kv.Reader, lo, hi string, limit int) []string {
	t.Helper()
	var rows []string
	err := r.Scan(background, bound(lo), bound(hi), limit, func(k, v []byte) bool {
		rows = append(rows, fmt.Sprintf("%s=%s", k, v))
		return true
	})
	if err != nil {
		t.Fatalf("scan %q to %q: %v", lo, hi, err)
	}
	return rows
}

// bound makes an open bound of "".
func bound(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// view runs fn on a snapshot.
func view(t *testing.T, s kv.Store, fn func(kv.Reader)) {
	t.Helper()
	err := s.View(background, func(r kv.Reader) error {
		fn(r)
		return nil
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
}

// expect compares the whole store with rows.
func expect(t *testing.T, s kv.Store, rows ...string) {
	t.Helper()
	view(t, s, func(r kv.Reader) {
		if got := scan(t, r, "", "", 0); !slices.Equal(got, rows) {
			t.Fatalf("store holds %q, want %q", got, rows)
		}
	})
}

func testEmpty(t *testing.T, s kv.Store) {
	caps := s.Caps()
	if caps.MaxOps < 100 || caps.MaxTxnBytes < 4096 || caps.MaxKey < 256 || caps.MaxValue < 1024 {
		t.Fatalf("caps too small to work with: %+v", caps)
	}
	expect(t, s)
	view(t, s, func(r kv.Reader) {
		if v := get(t, r, "a"); v != "" {
			t.Fatalf("empty store holds %q", v)
		}
	})
}

func testPutGetDelete(t *testing.T, s kv.Store) {
	first := put(t, s, "a", "1")
	second := put(t, s, "a", "2")
	if second <= first || first == 0 {
		t.Fatalf("revisions %d, %d do not grow", first, second)
	}
	put(t, s, "b", "3")
	expect(t, s, "a=2", "b=3")
	update(t, s, func(x kv.Txn) error {
		x.Delete([]byte("a"))
		x.Delete([]byte("never there"))
		return nil
	})
	expect(t, s, "b=3")
	put(t, s, "a", "4")
	expect(t, s, "a=4", "b=3")
}

func testGetMany(t *testing.T, s kv.Store) {
	put(t, s, "a", "1")
	put(t, s, "c", "3")
	view(t, s, func(r kv.Reader) {
		values, err := r.Get(background, []byte("c"), []byte("b"), []byte("a"), []byte("c"))
		if err != nil {
			t.Fatal(err)
		}
		if len(values) != 4 || string(values[0]) != "3" || values[1] != nil || string(values[2]) != "1" || string(values[3]) != "3" {
			t.Fatalf("got %q", values)
		}
		if values, err = r.Get(background); err != nil || len(values) != 0 {
			t.Fatalf("no keys: %q, %v", values, err)
		}
	})
}

func testOwnWrites(t *testing.T, s kv.Store) {
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	update(t, s, func(x kv.Txn) error {
		x.Put([]byte("a"), []byte("2"))
		x.Delete([]byte("b"))
		x.Put([]byte("c"), []byte("2"))
		if got := get(t, x, "a") + get(t, x, "b") + get(t, x, "c"); got != "22" {
			t.Errorf("transaction sees %q", got)
		}
		x.Put([]byte("b"), []byte("3"))
		x.Delete([]byte("c"))
		if got := get(t, x, "b") + get(t, x, "c"); got != "3" {
			t.Errorf("transaction sees %q", got)
		}
		return nil
	})
	expect(t, s, "a=2", "b=3")
}

func testOwnWritesInScan(t *testing.T, s kv.Store) {
	for _, k := range []string{"a", "c", "e", "g"} {
		put(t, s, k, "1")
	}
	update(t, s, func(x kv.Txn) error {
		x.Put([]byte("b"), []byte("2"))
		x.Put([]byte("c"), []byte("2"))
		x.Delete([]byte("e"))
		x.Put([]byte("f"), []byte("2"))
		x.Delete([]byte("f"))
		x.Put([]byte("h"), []byte("2"))
		want := []string{"a=1", "b=2", "c=2", "g=1", "h=2"}
		if got := scan(t, x, "", "", 0); !slices.Equal(got, want) {
			t.Errorf("scan in transaction %q, want %q", got, want)
		}
		if got := scan(t, x, "b", "h", 2); !slices.Equal(got, want[1:3]) {
			t.Errorf("limited scan in transaction %q, want %q", got, want[1:3])
		}
		return nil
	})
	expect(t, s, "a=1", "b=2", "c=2", "g=1", "h=2")
}

func testScanBounds(t *testing.T, s kv.Store) {
	update(t, s, func(x kv.Txn) error {
		for _, k := range []string{"a", "b", "ba", "b\x00", "b\xff", "c", "\xff", "\xff\xff"} {
			x.Put([]byte(k), []byte(k))
		}
		return nil
	})
	cases := []struct {
		lo, hi string
		limit  int
		want   []string
	}{
		{"", "", 0, []string{"a", "b", "b\x00", "ba", "b\xff", "c", "\xff", "\xff\xff"}},
		{"b", "c", 0, []string{"b", "b\x00", "ba", "b\xff"}},
		{"b", "c", 2, []string{"b", "b\x00"}},
		{"b\x00", "b\xff", 0, []string{"b\x00", "ba"}},
		{"bb", "", 0, []string{"b\xff", "c", "\xff", "\xff\xff"}},
		{"", "a", 0, nil},
		{"c", "b", 0, nil},
		{"b", "b", 0, nil},
		{"d", "e", 0, nil},
		{"", "", 1, []string{"a"}},
	}
	view(t, s, func(r kv.Reader) {
		for _, c := range cases {
			var got []string
			err := r.Scan(background, bound(c.lo), bound(c.hi), c.limit, func(k, v []byte) bool {
				if !bytes.Equal(k, v) {
					t.Errorf("key %q has value %q", k, v)
				}
				got = append(got, string(k))
				return true
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("scan [%q, %q) limit %d: %q, %v; want %q", c.lo, c.hi, c.limit, got, err, c.want)
			}
		}
		n := 0
		if err := r.Scan(background, nil, nil, 0, func(_, _ []byte) bool { n++; return n < 3 }); err != nil || n != 3 {
			t.Errorf("stopped scan: %d calls, %v", n, err)
		}
	})
}

// testScanDelete deletes in the callback, as a recursive removal does.
func testScanDelete(t *testing.T, s kv.Store) {
	const n = 500
	update(t, s, func(x kv.Txn) error {
		for i := range n {
			x.Put(fmt.Appendf(nil, "d%04d", i), []byte("v"))
		}
		x.Put([]byte("e"), []byte("v"))
		return nil
	})
	update(t, s, func(x kv.Txn) error {
		seen := 0
		err := x.Scan(background, []byte("d"), []byte("e"), 0, func(k, _ []byte) bool {
			seen++
			x.Delete(k)
			x.Put([]byte("f"), []byte("v"))
			return true
		})
		if seen != n {
			t.Errorf("scan that deletes saw %d rows of %d", seen, n)
		}
		return err
	})
	expect(t, s, "e=v", "f=v")
}

var errOwn = errors.New("the test's own")

func testError(t *testing.T, s kv.Store) {
	put(t, s, "a", "1")
	_, err := s.Update(background, kv.OpID{}, func(x kv.Txn) error {
		x.Put([]byte("a"), []byte("2"))
		x.Put([]byte("b"), []byte("2"))
		return errOwn
	})
	if !errors.Is(err, errOwn) {
		t.Fatalf("update returned %v", err)
	}
	if err := s.View(background, func(kv.Reader) error { return errOwn }); !errors.Is(err, errOwn) {
		t.Fatalf("view returned %v", err)
	}
	expect(t, s, "a=1")
}

func testNoChange(t *testing.T, s kv.Store) {
	rev := put(t, s, "a", "1")
	same := update(t, s, func(x kv.Txn) error {
		get(t, x, "a")
		return nil
	})
	if same != rev {
		t.Fatalf("a transaction without changes moved the revision from %d to %d", rev, same)
	}
	view(t, s, func(r kv.Reader) {
		if r.Rev() != rev {
			t.Fatalf("snapshot of revision %d, want %d", r.Rev(), rev)
		}
	})
}

func testSnapshot(t *testing.T, s kv.Store) {
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	view(t, s, func(r kv.Reader) {
		for i := range 20 {
			put(t, s, "a", fmt.Sprint("new", i))
			put(t, s, fmt.Sprint("c", i), "new")
			update(t, s, func(x kv.Txn) error {
				x.Delete([]byte("b"))
				return nil
			})
			want := []string{"a=1", "b=1"}
			if got := scan(t, r, "", "", 0); !slices.Equal(got, want) {
				t.Fatalf("snapshot changed to %q", got)
			}
			if got := get(t, r, "a") + get(t, r, "b") + get(t, r, fmt.Sprint("c", i)); got != "11" {
				t.Fatalf("snapshot changed to %q", got)
			}
		}
		// A snapshot taken inside of another one sees what is new.
		view(t, s, func(inner kv.Reader) {
			if got := get(t, inner, "a"); got != "new19" {
				t.Fatalf("new snapshot sees %q", got)
			}
		})
	})
}
