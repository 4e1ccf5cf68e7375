package dirpolicy

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// known resolves a few names.
func known(name string) error {
	switch name {
	case "alice", "bob", "root", "backup", "staff":
		return nil
	}
	return fmt.Errorf("there is no %s on this host", name)
}

var resolver = Resolver{User: known, Group: known, Now: now}

func TestParse(t *testing.T) {
	p, err := Parse([]byte(`
version: 1
keys: [alias/projects, 1234abcd-12ab-34cd-56ef-1234567890ab]
compression: zstd:9
inline: 2KiB
key_ttl: 90s
audit: full
revocation: strict
metadata: strict
learn: 2026-12-01
statements:
  - name: staff
    effect: allow
    groups: staff
    users: [alice]
    actions: [read, "kmsfs:List"]
    programs: /usr/bin/*
    paths: ["/reports/*", "*.txt"]
    not_before: 2026-01-01
  - effect: deny
    not_users: [alice]
    actions: "*"
    condition:
      NumericEquals: {"kmsfs:Uid": 0}
`), resolver)
	if err != nil {
		t.Fatal(err)
	}
	want := meta.Params{BlockSize: meta.DefaultCompressedBlock, Codec: meta.CodecZstd, Level: 9, Inline: 2048}
	if p.Params != want || len(p.Keys) != 2 || p.KeyTTL != 90*time.Second || p.Audit != audit.LevelFull || !p.Strict || !p.StrictMetadata ||
		!p.Programs || !p.Paths || p.Digests || !p.Learning(now) || p.Learning(now.AddDate(0, 1, 0)) {
		t.Errorf("%+v", p)
	}
	ask := func(user, path, action string) policy.Decision {
		r := policy.Request{Action: action, Time: now, Principal: policy.Principal{ARN: policy.UserARN(keymgr.AccountID, user), Account: keymgr.AccountID,
			Unix: &policy.Unix{UID: 1000, User: user}}}
		if user == "bob" {
			r.Principal.Unix.UID = 0
		}
		r.Context.Text("kmsfs:Path", path)
		r.Context.Text("kmsfs:Program", "/usr/bin/cat")
		return p.Statements.Evaluate(r)
	}
	for _, c := range []struct {
		user, path, action string
		want               policy.Effect
		line               int
	}{
		{"alice", "/reports/a/b", "kmsfs:Read", policy.Allow, 12},
		{"alice", "/a.txt", "kmsfs:List", policy.Allow, 12},
		{"alice", "/a.txt", "kmsfs:Write", policy.ImplicitDeny, 0},
		{"alice", "/a", "kmsfs:Read", policy.ImplicitDeny, 0},
		{"bob", "/a.txt", "kmsfs:Read", policy.ExplicitDeny, 20},
	} {
		if d := ask(c.user, c.path, c.action); d.Effect != c.want || d.Line != c.line {
			t.Errorf("%v: %+v", c, d)
		}
	}
}

// TestRefused: every malformed policy is refused with its place and reason.
func TestRefused(t *testing.T) {
	statement := func(lines string) string {
		return "version: 1\nstatements:\n  - effect: allow\n    users: alice\n    actions: read\n" + lines
	}
	for _, c := range []struct {
		source string
		line   int
		reason string
	}{
		{"", 1, "empty"},
		{"[1]", 1, "mapping"},
		{"version: 2", 1, "version is 1"},
		{"keys: a", 1, "no version"},
		{"version: 1\nversion: 1", 2, "stands twice"},
		{"version: 1\nkeyz: a", 2, `"keyz" is no member of a policy`},
		{"version: 1\nkeys: []", 2, "empty"},
		{"version: 1\nkeys: [a, b, c, d, e, f]", 2, "at most 5"},
		{"version: 1\nkeys: [a, a]", 2, "stands twice"},
		{"version: 1\nkeys: &k [a]", 2, "anchors"},
		{"version: 1\nkeys: !!str a", 2, "tags"},
		{"version: 1\n---\nversion: 1", 2, "second document"},
		{"version: 1\nkeys: [a", 1, "expected"},
		{"version: 1\nblock_size: 5000", 2, "power of two"},
		{"version: 1\nblock_size: many", 2, "no number of bytes"},
		{"version: 1\nblock_size: 4KiB\ncompression: zstd", 3, "65536 bytes at least"},
		{"version: 1\ncompression: gzip", 2, "none, s2, zstd"},
		{"version: 1\ncompression: zstd:99", 2, "none, s2, zstd"},
		{"version: 1\ninline: 1MiB", 2, "64KiB"},
		{"version: 1\nwrap: both", 2, "zone or cmk"},
		{"version: 1\nwrap: cmk\nkeys: [alias/a, alias/b]", 3, "one key"},
		{"version: 1\nkey_ttl: 1ms", 2, "key_ttl"},
		{"version: 1\naudit: none", 2, "denied or access or full"},
		{"version: 1\nrevocation: lax", 2, "shared or strict"},
		{"version: 1\nlearn: 2026-12-01", 2, "nothing to learn"},
		{statement("learn: 2026-11-01"), 6, "over already"},
		{statement("learn: 2027-11-01"), 6, "14 days"},
		{"version: 1\nstatements: []", 2, "list of statements"},
		{"version: 1\nstatements:\n  - users: alice\n    actions: read", 3, "no effect"},
		{"version: 1\nstatements:\n  - effect: allow\n    actions: read", 3, "says nobody"},
		{"version: 1\nstatements:\n  - effect: allow\n    users: alice", 3, "no actions"},
		{"version: 1\nstatements:\n  - effect: maybe", 3, "allow or deny"},
		{"version: 1\nstatements:\n  - effect: allow\n    users: mallory\n    actions: read", 4, "there is no mallory"},
		{"version: 1\nstatements:\n  - effect: allow\n    groups: [staff, nobody]\n    actions: read", 4, "there is no nobody"},
		{"version: 1\nstatements:\n  - effect: allow\n    users: alice\n    actions: [read, fly]", 5, "matches no action"},
		{"version: 1\nstatements:\n  - effect: allow\n    not_users: alice\n    actions: read", 4, "NotPrincipal works with Deny only"},
		{"version: 1\nstatements:\n  - effect: allow\n    users: \"*\"\n    actions: read\n    programs: /usr/bin/vim", 3, "narrows an Allow for users or groups"},
		{statement("    program_sha256: abc"), 6, "SHA-256"},
		{statement("    paths: reports"), 6, "begins with /"},
		{statement("    paths: /a//b"), 6, "never match"},
		{statement("    not_before: 2027-01-02\n    not_after: 2027-01-01"), 3, "never match"},
		{statement("    not_after: 2026-11-01"), 3, "never match"},
		{statement("    not_after: tomorrow"), 6, "no time"},
		{statement("    condition: {Sounds: {kmsfs:Path: x}}"), 6, "not a condition operator"},
		{statement("    condition: {StringEquals: {kmsfs:Colour: x}}"), 6, "not a condition key"},
		{statement("    when: now"), 6, "is no member of a statement"},
		{statement("  - effect: deny\n    principals: \"*\"\n    actions: \"*\""), 3, "the deny in line 6 takes all of it"},
		{"version: 1\ndescription: " + strings.Repeat("x", MaxSource), 0, "at most"},
	} {
		_, err := Parse([]byte(c.source), resolver)
		var e *policy.Error
		if !errors.As(err, &e) || e.Line != c.line || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%.80q: %v; want line %d, %q", c.source, err, c.line, c.reason)
		}
	}
}

// TestOld: what is over by now can still be read.
func TestOld(t *testing.T) {
	source := "version: 1\nlearn: 2020-01-01\nstatements:\n  - effect: allow\n    users: gone\n    actions: read\n    not_after: 2020-01-01\n"
	if _, err := Parse([]byte(source), Resolver{}); err != nil {
		t.Error(err)
	}
}

// TestExample: the example of docs/POLICY.md is a policy.
func TestExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/POLICY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```yaml\n")
	example, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("docs/POLICY.md has no example")
	}
	p, err := Parse([]byte(example), Resolver{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Statements == nil || len(p.Keys) == 0 {
		t.Errorf("%+v", p)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\nstatements:\n  - effect: deny\n    not_users: [a]\n    actions: '*'\n    condition: {Null: {kmsfs:Path: true}}\n"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, source []byte) {
		p, err := Parse(source, resolver)
		var e *policy.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%q: %v", source, err)
		}
		if err == nil && p.Statements != nil {
			p.Statements.Evaluate(policy.Request{Action: "kmsfs:Read"})
		}
	})
}
