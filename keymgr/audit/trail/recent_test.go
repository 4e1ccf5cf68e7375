package trail

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// logOf makes a log of so many events, in compressed segments of several blocks and an open one.
func logOf(t *testing.T, n int, change func(*Options)) string {
	t.Helper()
	o := options(filepath.Join(t.TempDir(), "audit"))
	o.SegmentSize = 500 << 10
	if change != nil {
		change(&o)
	}
	l := open(t, o, newNotary(t))
	record(t, l, 0, n)
	if err := l.packAll(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	packed := 0
	for _, s := range must(listSegments(filepath.Join(o.Dir, KeyStream))) {
		if blocks, _, err := readIndex(s); s.packed && err == nil && len(blocks) > 1 {
			packed++
		}
	}
	if packed == 0 {
		t.Fatal("no segment has several blocks")
	}
	return o.Dir
}

// TestRecent: from the end on it finds what Search finds, block by block, stops before the next block when it has the limit, and says whether there is more.
func TestRecent(t *testing.T) {
	dir := logOf(t, 1500, nil)
	for _, q := range []Query{{}, {Path: "/home/u3"}, {Decision: audit.Deny}} {
		var want []uint64
		if err := Search(t.Context(), dir, q, func(f Found) error { want = append(want, f.Event.Sequence); return nil }); err != nil {
			t.Fatal(err)
		}
		recent := func(limit int) (found []uint64, steps int, cut bool) {
			cut, err := Recent(t.Context(), dir, KeyStream, q, limit, func(f Found) error {
				if n := len(found); n > 0 && f.Event.Sequence < found[n-1] {
					steps++
				}
				found = append(found, f.Event.Sequence)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return found, steps, cut
		}
		all, steps, cut := recent(len(want))
		if slices.Sort(all); !slices.Equal(all, want) || cut || steps < 3 {
			t.Errorf("%+v: %d events of %d in %d steps, cut: %v", q, len(all), len(want), steps+1, cut)
		}
		for limit, n := 1, 0; ; limit = n + 1 { // n is what one step more gives
			found, _, cut := recent(limit)
			n = len(found)
			if slices.Sort(found); n < limit || !slices.Equal(found, want[len(want)-n:]) || cut != (n < len(want)) {
				t.Fatalf("%+v, limit %d: %d events of %d, not the newest; cut: %v", q, limit, n, len(want), cut)
			}
			if limit > 1 && n-limit >= blockSize { // behind the open segment it goes by blocks
				t.Errorf("%+v, limit %d: %d events", q, limit, n)
			}
			if again, _, _ := recent(n); len(again) != n {
				t.Errorf("%+v, limit %d: %d events", q, n, len(again))
			}
			if !cut {
				break
			}
		}
	}
	if _, err := Recent(t.Context(), dir, "none", Query{}, 1, nil); !errors.Is(err, ErrNoLog) {
		t.Errorf("a stream that is not there: %v", err)
	}
}

// TestRecentSealed: what only an auditor opens is found in the time that is wanted, whatever it is about, in compressed segments too.
func TestRecentSealed(t *testing.T) {
	_, sealer := auditors(t)
	dir := logOf(t, 1500, func(o *Options) { o.Auditor = sealer })
	for name, c := range map[string]struct {
		q    Query
		want int
	}{"not asked for": {Query{Path: "/home/u3"}, 0}, "path": {Query{Path: "/home/u3", Sealed: true}, 1500}, "denials": {Query{Path: "/home/u3", Sealed: true, Decision: audit.Deny}, 150},
		"later": {Query{Sealed: true, Since: time.Now().Add(time.Hour)}, 0}} {
		sealed := 0
		if _, err := Recent(t.Context(), dir, KeyStream, c.q, 10000, func(f Found) error {
			if f.Event.Sealed != "" {
				sealed++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if sealed != c.want {
			t.Errorf("%s: %d sealed events, want %d", name, sealed, c.want)
		}
	}
}
