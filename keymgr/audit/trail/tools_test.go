package trail

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// TestProofs: any sealed event can be proven from the log, the proof holds by the key alone, and one that was changed does not.
func TestProofs(t *testing.T) {
	s := sampleLog(t, rand.New(rand.NewPCG(3, 4)), false)
	a := s.n.trust().Anchors[0]
	rng := rand.New(rand.NewPCG(5, 6))
	for _, record := range append([]int64{0, a.Size - 1, 255, 256}, rng.Int64N(a.Size), rng.Int64N(a.Size), rng.Int64N(a.Size)) {
		p, err := Prove(t.Context(), s.dir, record, a)
		if err != nil {
			t.Fatal(err)
		}
		e, head, err := p.Check(s.n.key)
		if err != nil || int64(e.Sequence) != record || head.Size != a.Size {
			t.Errorf("record %d: %+v, %v", record, head, err)
		}
		forged := p
		forged.Event = strings.Replace(p.Event, `"decision":"`, `"decision":"x`, 1)
		moved := p
		moved.Sequence = (record + 1) % a.Size
		for what, bad := range map[string]Proof{"forged": forged, "moved": moved} {
			if _, _, err := bad.Check(s.n.key); !errors.Is(err, ErrProof) {
				t.Errorf("record %d, %s: %v", record, what, err)
			}
		}
		if _, _, err := p.Check(newNotary(t).key); !errors.Is(err, seal.ErrSeal) {
			t.Errorf("record %d, another key: %v", record, err)
		}
	}
	if _, err := Prove(t.Context(), s.dir, a.Size, a); !errors.Is(err, ErrNoLog) {
		t.Errorf("a record that is not sealed: %v", err)
	}
	if what := edit(t, s, rng); what != "" {
		if _, err := Prove(t.Context(), s.dir, a.Size-1, a); !errors.Is(err, ErrDamaged) {
			t.Errorf("from a changed log: %v", err)
		}
	}
}

// TestSearch: queries find what looking at every event finds, in compressed segments and others.
func TestSearch(t *testing.T) {
	s := sampleLog(t, rand.New(rand.NewPCG(7, 8)), true)
	var all []*audit.Event
	collect := func(q Query) (out []*audit.Event) {
		if err := Search(context.Background(), s.dir, q, func(f Found) error { out = append(out, f.Event); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if all = collect(Query{}); len(all) < 300 {
		t.Fatalf("%d events", len(all))
	}
	middle := all[len(all)/2]
	below := func(dir string) func(*audit.Event) bool {
		return func(e *audit.Event) bool { return e.Path == dir || strings.HasPrefix(e.Path, dir+"/") }
	}
	for name, c := range map[string]struct {
		q    Query
		want func(*audit.Event) bool
	}{
		"principal":      {Query{Principal: middle.Principal}, func(e *audit.Event) bool { return e.Principal == middle.Principal }},
		"nobody":         {Query{Principal: "arn:nobody"}, func(*audit.Event) bool { return false }},
		"key and denial": {Query{Key: middle.Key, Decision: audit.Deny}, func(e *audit.Event) bool { return e.Key == middle.Key && e.Decision == audit.Deny }},
		"name":           {Query{Name: audit.Rename}, func(e *audit.Event) bool { return e.Name == audit.Rename }},
		"directory":      {Query{Path: "/home/u3"}, below("/home/u3")},
		"directory/":     {Query{Path: "/home/u3/project 0/"}, below("/home/u3/project 0")},
		"half a name":    {Query{Path: "/home/u3/proj"}, func(*audit.Event) bool { return false }},
		"beginning":      {Query{Path: "/home/u3/proj*"}, func(e *audit.Event) bool { return strings.HasPrefix(e.Path, "/home/u3/proj") }},
		"file":           {Query{Path: middle.Path}, func(e *audit.Event) bool { return e.Path == middle.Path }},
		"everything":     {Query{Path: "/"}, func(e *audit.Event) bool { return e.Path != "" }},
		"id":             {Query{ID: middle.ID}, func(e *audit.Event) bool { return e.ID == middle.ID }},
		"since":          {Query{Since: middle.Time}, func(e *audit.Event) bool { return !e.Time.Before(middle.Time) }},
		"until":          {Query{Until: middle.Time}, func(e *audit.Event) bool { return e.Time.Before(middle.Time) }},
	} {
		want := map[string]bool{}
		for _, e := range all {
			if c.want(e) {
				want[e.ID] = true
			}
		}
		got := collect(c.q)
		for _, e := range got {
			if !want[e.ID] {
				t.Errorf("%s: %s is found", name, e.ID)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d found, want %d", name, len(got), len(want))
		}
	}
}

// TestFollow: what is recorded while somebody follows is seen once, in order, over changes of segments.
func TestFollow(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	o := options(dir)
	o.SegmentSize = 10 << 10
	l := open(t, o, n)
	record(t, l, 0, 20)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var got []uint64
	started := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		close(started)
		done <- Follow(ctx, dir, Query{Name: "Marked"}, func(f Found) error {
			if got = append(got, f.Event.Sequence); f.Event.Detail == "last" {
				cancel()
			}
			return nil
		})
	}()
	<-started
	marked := func(detail string) {
		e := event(1)
		e.Name, e.Detail = "Marked", detail
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 { // until it follows
		marked("")
		time.Sleep(followEvery)
	}
	for range 60 {
		marked("")
	}
	for marked("last"); ctx.Err() == nil; marked("last") { // until it is seen
		time.Sleep(followEvery)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(got) < 1 || got[len(got)-1]-got[0] < uint64(len(got)-1) {
		t.Errorf("%d events are seen", len(got))
	}
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("event %d after %d", got[i], got[i-1])
		}
	}
}

// TestArchive: closed segments move away, with the key manager's knowledge; the rest is whole by itself, and both together, and without that knowledge it is not.
func TestArchive(t *testing.T) {
	s := sampleLog(t, rand.New(rand.NewPCG(9, 10)), false)
	to := filepath.Join(t.TempDir(), "archive")
	plan, err := PlanArchive(s.dir, time.Now().Add(time.Hour))
	if err != nil || len(plan) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if none, err := PlanArchive(s.dir, time.Now().Add(-time.Hour)); err != nil || len(none) != 0 {
		t.Errorf("nothing is that old: %+v, %v", none, err)
	}
	before := whole(t, s.dir, s.n.trust())
	for range 2 { // an interrupted one is repeated
		if err := plan[0].Copy(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	if err := plan[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s.dir, s.n.trust())[0]; len(r.Faults) == 0 {
		t.Error("records are missing, and nobody complains")
	}
	stream := plan[0].Stream
	a := s.n.anchors[stream]
	a.Archived = plan[0].UpTo
	s.n.anchors[stream] = a
	if r := whole(t, s.dir, s.n.trust()); r.From != plan[0].UpTo || r.Records >= before.Records {
		t.Errorf("the rest: %+v", r)
	}
	trust := s.n.trust()
	trust.Archives = []string{to}
	if r := whole(t, s.dir, trust); r.Records != before.Records {
		t.Errorf("both: %+v, before %+v", r, before)
	}
}
