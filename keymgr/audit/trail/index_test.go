package trail

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// TestItems: what an event may be found by is what its members say, whatever bytes are in them; names in its encryption context add to that and take nothing away.
func TestItems(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	value := func() string {
		return pick("", "", "x", `a"b`, `\`, `\\"`, `","path":"/no`, `"key":"no"`, "additionalEventData", "ü\n", fmt.Sprint(r.IntN(9)))
	}
	path := func() string { return pick("", "/", "/a", `/a/b"c`, `/\`, `/x/"path":"/y`, "/a/b/c/d\xff") }
	for i := range 3000 {
		e := of(audit.Access, i)
		e.ID, e.Name = audit.NewID(), pick("Open", "Decrypt", `odd"name`)
		e.Principal, e.Statement, e.Key, e.DestinationKey = value(), value(), value(), value()
		e.Path, e.NewPath, e.Program, e.Detail = path(), path(), path(), value()
		e.Context, e.DestinationContext = nil, nil
		context := r.IntN(2) == 0
		if context {
			e.Context = map[string]string{pick("path", "key", "x", "sealed", "destinationKey", "principal"): value() + path(), `"`: "y"}
			e.DestinationContext = map[string]string{"newPath": path()}
		}
		if r.IntN(10) == 0 {
			e.Sealed = "c2VhbA=="
		}
		want := items{}
		add := func(kind byte, v string) {
			if v != "" {
				want[hashItem(kind, escape(v))] = struct{}{}
			}
		}
		add(itemName, e.Name)
		add(itemPrincipal, e.Principal)
		add(itemStatement, e.Statement)
		add(itemDecision, string(e.Decision))
		add(itemKey, e.Key)
		add(itemKey, e.DestinationKey)
		want.addPath(escape(e.Path))
		want.addPath(escape(e.NewPath))
		if e.Sealed != "" {
			want[hashItem(itemSealed, nil)] = struct{}{}
		}
		line := audit.AppendSequence(must(e.Append(nil)), uint64(i))
		got := items{}
		got.addLine(line)
		for x := range want {
			if _, ok := got[x]; !ok {
				t.Fatalf("an item is missing: %s", line)
			}
		}
		if !context && len(got) != len(want) {
			t.Fatalf("items too many, %v, not %v: %s", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)), line)
		}
	}
}

// TestTimeOf: a record's time is what time.Parse makes of it, or none.
func TestTimeOf(t *testing.T) {
	for _, s := range []string{"2026-11-26T04:05:06.000007Z", "2026-02-28T23:59:59.999999Z", "2026-02-29T00:00:00.000000Z", "2028-02-29T00:00:00.000000Z", "2026-12-31T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z",
		"2026-13-01T00:00:00.000000Z", "2026-11-26T24:00:00.000000Z", "2026-11-26T04:60:00.000000Z", "2026-11-26T04:00:60.000000Z", "2026-11-26T04:00:00.00000Z", "2026-11-26 04:00:00.000000Z",
		"2026-11-00T04:00:00.000000Z", "2026-11-26T04:00:00.000000z", "2026-11-26T04:00:00.00000-Z", "0000-01-01T00:00:00.000000Z", ""} {
		want, err := time.Parse(audit.TimeFormat, s)
		got, ok := timeOf([]byte(`{"eventTime":"` + s + `"}`))
		if ok != (err == nil) || ok && got != want.UnixMicro() {
			t.Errorf("%q: %d, %v, want %d, %v", s, got, ok, want.UnixMicro(), err)
		}
	}
}

// BenchmarkItems is what a record costs in a segment's index.
func BenchmarkItems(b *testing.B) {
	e := of(audit.Access, 1)
	e.ID, e.Path = audit.NewID(), "/projects/alpha/reports/2026/november.txt"
	line := audit.AppendSequence(must(e.Append(nil)), 1)
	s := items{}
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		s.addLine(line)
	}
}
