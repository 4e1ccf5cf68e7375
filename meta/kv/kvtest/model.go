package kvtest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// keys are few, so that random transactions meet, and nested, so that bounds are tested.
var keys = rapid.SampledFrom([]string{"a", "ab", "abc", "a\x00", "b", "b\xff", "ba", "c", "d", "e", "f", "\xff"})

// testModel runs random transactions and views on a store and on a map.
func testModel(t *testing.T, open func(t *testing.T) kv.Store) {
	s := open(t)
	defer s.Close()
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{T: rt, s: s, rows: map[string]string{}}
		m.clear()
		rt.Repeat(map[string]func(*rapid.T){
			"update": m.update,
			"view":   m.view,
			"":       func(*rapid.T) {},
		})
		m.compare("", "", 0)
	})
}

// model is the map beside the store.
type model struct {
	*rapid.T
	s    kv.Store
	rows map[string]string
}

// clear empties the store, which is used again for every case.
func (m *model) clear() {
	_, err := m.s.Update(background, kv.OpID{}, func(x kv.Txn) error {
		return x.Scan(background, nil, nil, 0, func(k, _ []byte) bool {
			x.Delete(k)
			return true
		})
	})
	if err != nil {
		m.Fatal(err)
	}
}

func (m *model) update(rt *rapid.T) {
	next := maps.Clone(m.rows)
	fail := rapid.IntRange(0, 5).Draw(rt, "fail") == 0
	steps := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 16).Draw(rt, "steps")
	_, err := m.s.Update(background, kv.OpID{}, func(x kv.Txn) error {
		for _, step := range steps {
			k := keys.Draw(rt, "key")
			switch step {
			case 0:
				x.Delete([]byte(k))
				delete(next, k)
			case 1:
				compareScan(rt, x, next, k, keys.Draw(rt, "hi"), rapid.IntRange(0, 4).Draw(rt, "limit"))
			default:
				v := fmt.Sprint(rapid.IntRange(0, 999).Draw(rt, "value"))
				x.Put([]byte(k), []byte(v))
				next[k] = v
			}
			compareGet(rt, x, next, keys.Draw(rt, "get"))
		}
		if fail {
			return errOwn
		}
		return nil
	})
	switch {
	case fail && err == nil:
		rt.Fatal("an error of the transaction was lost")
	case !fail && err != nil:
		rt.Fatal(err)
	case !fail:
		m.rows = next
	}
}

func (m *model) view(rt *rapid.T) {
	m.compare(keys.Draw(rt, "lo"), keys.Draw(rt, "hi"), rapid.IntRange(0, 5).Draw(rt, "limit"))
}

func (m *model) compare(lo, hi string, limit int) {
	err := m.s.View(background, func(r kv.Reader) error {
		compareScan(m.T, r, m.rows, lo, hi, limit)
		for _, k := range []string{"a", "b", "\xff"} {
			compareGet(m.T, r, m.rows, k)
		}
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
}

func compareGet(rt *rapid.T, r kv.Reader, rows map[string]string, k string) {
	values, err := r.Get(background, []byte(k))
	if err != nil {
		rt.Fatal(err)
	}
	want, ok := rows[k]
	if (values[0] != nil) != ok || string(values[0]) != want {
		rt.Fatalf("get %q: %q, want %q", k, values[0], want)
	}
}

func compareScan(rt *rapid.T, r kv.Reader, rows map[string]string, lo, hi string, limit int) {
	var got, want []string
	err := r.Scan(background, bound(lo), bound(hi), limit, func(k, v []byte) bool {
		got = append(got, string(k)+"="+string(v))
		return true
	})
	if err != nil {
		rt.Fatal(err)
	}
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		if k >= lo && (hi == "" || k < hi) && (limit == 0 || len(want) < limit) {
			want = append(want, k+"="+rows[k])
		}
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("scan [%q, %q) limit %d: %q, want %q", lo, hi, limit, got, want)
	}
}
