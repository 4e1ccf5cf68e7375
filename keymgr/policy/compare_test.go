package policy_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// long reports whether the long forms were asked for.
func long() bool { return os.Getenv("KMSFS_LONG") == "1" }

// evaluated is a document that both evaluators have seen.
type evaluated struct {
	text     []byte
	decision policy.Decision
	verdict  verdict
}

// both evaluates statements with both evaluators and holds one to the other.
func both(t *testing.T, seed uint64, f *flat, statements []any, kind policy.Kind) evaluated {
	t.Helper()
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.Rules{Kind: kind}.Parse(text)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, text)
	}
	var decoded struct{ Statement []map[string]any }
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	e := evaluated{text: text, decision: d.Evaluate(f.request()), verdict: judge(decoded.Statement, kind == policy.IdentityPolicy, f)}
	got := verdict{outcome(e.decision), e.decision.Statement, e.decision.Unresolved}
	if got != e.verdict {
		t.Fatalf("seed %d: evaluator says %+v, reference says %+v\n%s", seed, got, e.verdict, describe(f, text))
	}
	again := parse(t, policy.Rules{Kind: kind}, string(d.Canonical())).Evaluate(f.request())
	again.Line, again.Column = e.decision.Line, e.decision.Column
	if again != e.decision {
		t.Fatalf("seed %d: in canonical form %+v, as given %+v\n%s", seed, again, e.decision, describe(f, text, d.Canonical()))
	}
	return e
}

// compare tries one random case and returns the outcome.
func compare(t *testing.T, seed uint64) string {
	t.Helper()
	r := newRandom(seed)
	f := r.request()
	var key *policy.Decision
	var keyVerdict *verdict
	var texts [][]byte
	if r.chance(90) {
		e := both(t, seed, f, r.statements(f, false), policy.KeyPolicy)
		key, keyVerdict = &e.decision, &e.verdict
		texts = append(texts, e.text)
	}
	var identity []policy.Decision
	var identityVerdicts []verdict
	for range pick(r, 0, 1, 1, 2) {
		e := both(t, seed, f, r.statements(f, true), policy.IdentityPolicy)
		identity = append(identity, e.decision)
		identityVerdicts = append(identityVerdicts, e.verdict)
		texts = append(texts, e.text)
	}
	var grants []policy.Decision
	if r.chance(15) {
		grants = append(grants, policy.ByGrant())
	}
	got := outcome(policy.Combine(key, identity, grants))
	if want := whole(keyVerdict, identityVerdicts, len(grants)); got != want {
		t.Fatalf("seed %d: together the evaluator says %s, the reference %s\n%s", seed, got, want, describe(f, texts...))
	}
	return got
}

// TestAgainstReference: both evaluators agree on random policies and requests, in every detail, and enough of them are allowed.
func TestAgainstReference(t *testing.T) {
	n := 10_000
	if long() {
		n = 2_000_000
	}
	if testing.Short() {
		n = 3_000
	}
	const firstSeed = 20261125
	seen := map[string]int{}
	for i := range n {
		seen[compare(t, firstSeed+uint64(i))]++
	}
	t.Logf("%d cases: %v", n, seen)
	for outcome, least := range map[string]int{"allow": 30, "deny": 10, "none": 10} {
		if seen[outcome]*100 < n*least {
			t.Errorf("%d of %d cases are %s, at least %d %% must be", seen[outcome], n, outcome, least)
		}
	}
}

// FuzzEvaluate is the same for seeds of the fuzzer's choice.
func FuzzEvaluate(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compare(t, seed) })
}
