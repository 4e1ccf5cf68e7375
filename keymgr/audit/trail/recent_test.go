package trail

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// TestRecent: from the end on it finds what Search finds, block by block, and stops at the first block behind the limit only where more is wanted.
func TestRecent(t *testing.T) {
	s := sampleLog(t, rand.New(rand.NewPCG(9, 10)), true)
	stream := must(Streams(s.dir))[0]
	for _, q := range []Query{{}, {Path: "/home/u3"}, {Decision: audit.Deny}} {
		want := map[uint64]bool{}
		newest := uint64(0)
		if err := Search(t.Context(), s.dir, q, func(f Found) error { want[f.Event.Sequence], newest = true, f.Event.Sequence; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{1, len(want) / 2, len(want), len(want) + 1} {
			found := map[uint64]bool{}
			lowest, last := newest, newest
			cut, err := Recent(t.Context(), s.dir, stream, q, limit, func(f Found) error {
				n := f.Event.Sequence
				if n < last && len(found) >= limit {
					t.Errorf("%+v: %d comes behind %d", q, n, limit)
				}
				found[n], last, lowest = true, n, min(lowest, n)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			all := 0
			for n := range want {
				if n >= lowest {
					all++
				}
			}
			if len(found) != all || len(found) < min(limit, len(want)) || cut != (len(found) < len(want)) {
				t.Errorf("%+v, limit %d: %d events, %d from %d on, of %d; cut: %v", q, limit, len(found), all, lowest, len(want), cut)
			}
		}
		if cut, _ := Recent(t.Context(), s.dir, stream, q, 1, func(Found) error { return nil }); !cut {
			t.Errorf("%+v: nothing was cut, the test shows nothing", q)
		}
	}
	if _, err := Recent(t.Context(), s.dir, "none", Query{}, 1, nil); err == nil {
		t.Error("a stream that is not there")
	}
}

// TestRecentSealed: what only an auditor opens is found in the time that is wanted, whatever it is about.
func TestRecentSealed(t *testing.T) {
	_, sealer := auditors(t)
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	l := open(t, options(dir), n)
	record(t, l, 0, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.Auditor = sealer
	l = open(t, o, n)
	record(t, l, 20, 40)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	count := func(q Query) (clear, sealed int) {
		_, err := Recent(t.Context(), dir, KeyStream, q, 1000, func(f Found) error {
			if f.Event.Sealed != "" {
				sealed++
			} else {
				clear++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return clear, sealed
	}
	if clear, sealed := count(Query{Path: "/home/u3"}); clear != 3 || sealed != 0 {
		t.Errorf("%d in clear, %d sealed", clear, sealed)
	}
	if clear, sealed := count(Query{Path: "/home/u3", Sealed: true}); clear != 3 || sealed != 20 {
		t.Errorf("with sealed ones: %d in clear, %d sealed", clear, sealed)
	}
	if clear, sealed := count(Query{Path: "/home/u3", Sealed: true, Decision: audit.Deny}); clear != 0 || sealed != 2 {
		t.Errorf("with sealed ones that are denials: %d in clear, %d sealed", clear, sealed)
	}
}
