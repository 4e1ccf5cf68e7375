package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// TestSettled: a decision that is said to depend on nothing but who asks for which action is what Evaluate decides about requests that have everything else, and enough of them are said to be.
func TestSettled(t *testing.T) {
	const n, firstSeed = 10_000, 20261126
	settled := map[policy.Effect]int{}
	for seed := range uint64(n) {
		r := newRandom(firstSeed + seed)
		f := r.request()
		statements := r.statements(f, false)
		for _, s := range statements {
			m := s.(map[string]any)
			if r.chance(80) {
				delete(m, "Resource")
				delete(m, "NotResource")
			}
			if r.chance(60) {
				delete(m, "Condition")
			}
		}
		text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
		if err != nil {
			t.Fatal(err)
		}
		d := parse(t, policy.Rules{Kind: policy.DirectoryPolicy}, string(text))
		request := f.request()
		got, ok := d.Settled(request.Principal, request.Action)
		if !ok {
			continue
		}
		settled[got.Effect]++
		if want := d.Evaluate(request); got != want {
			t.Fatalf("seed %d: settled as %+v, evaluated as %+v\n%s", firstSeed+seed, got, want, describe(f, text))
		}
	}
	t.Logf("of %d: %v", n, settled)
	for _, e := range []policy.Effect{policy.Allow, policy.ExplicitDeny, policy.ImplicitDeny} {
		if settled[e] < n/20 {
			t.Errorf("%v: %d of %d", e, settled[e], n)
		}
	}
}

// TestNotSettled: what a statement that may apply asks about keeps a decision open, and only that.
func TestNotSettled(t *testing.T) {
	const when = `, "Condition": {"StringLike": {"kmsfs:Path": "/x/*"}}`
	say := func(effect, who, action, rest string) string {
		return `{"Effect": "` + effect + `", "Principal": {"AWS": "` + who + `"}, "Action": "` + action + `"` + rest + `}`
	}
	self, other := unixAlice.ARN, iam+"unix/user/nobody"
	for _, c := range []struct {
		what       string
		statements []string
		settled    bool
	}{
		{"an Allow", []string{say("Allow", self, "kmsfs:Read", "")}, true},
		{"an Allow with a condition", []string{say("Allow", self, "kmsfs:Read", when)}, false},
		{"one behind an Allow without", []string{say("Allow", self, "kmsfs:Read", ""), say("Allow", self, "kmsfs:Read", when)}, true},
		{"one before an Allow without", []string{say("Allow", self, "kmsfs:Read", when), say("Allow", self, "kmsfs:Read", "")}, false},
		{"a Deny with a condition", []string{say("Allow", self, "kmsfs:Read", ""), say("Deny", self, "kmsfs:Read", when)}, false},
		{"a Deny for somebody else", []string{say("Allow", self, "kmsfs:Read", ""), say("Deny", other, "kmsfs:Read", when)}, true},
		{"a Deny of something else", []string{say("Allow", self, "kmsfs:Read", ""), say("Deny", self, "kmsfs:Write", when)}, true},
		{"an Allow for somebody else", []string{say("Allow", other, "kmsfs:Read", when)}, true},
		{"a resource", []string{say("Allow", self, "kmsfs:Read", `, "Resource": "`+keyOne+`"`)}, false},
	} {
		d := parse(t, policy.Rules{Kind: policy.DirectoryPolicy}, document(c.statements...))
		if _, ok := d.Settled(unixAlice, "kmsfs:Read"); ok != c.settled {
			t.Errorf("%s: settled %v", c.what, ok)
		}
	}
}
