package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

const (
	allowAlice  = `{"Sid": "alice", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/alice"}, "Action": "kms:*", "Resource": "*"}`
	allowRoot   = `{"Sid": "root", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*", "Resource": "*"}`
	allowAll    = `{"Sid": "all", "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}`
	denyAll     = `{"Sid": "no", "Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}`
	denyDecrypt = `{"Sid": "no decrypt", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}`
	denyEncrypt = `{"Sid": "no encrypt", "Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*"}`
	denyFinance = `{"Sid": "no finance", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::000000000000:unix/group/finance"}, "Action": "*", "Resource": "*"}`
	rootDecrypt = `{"Sid": "root decrypt", "Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": "x"}}}`
)

// documentCases: which statement of a document decides.
var documentCases = []struct {
	name     string
	document string
	request  option
	want     string
	sid      string
	unsure   bool
}{
	{"one Allow", document(allowAlice), with(), "allow", "alice", false},
	{"nothing fits", document(allowAlice), by(bob), "none", "", false},
	{"Deny after Allow", document(allowAlice, denyDecrypt), with(), "deny", "no decrypt", false},
	{"Deny before Allow", document(denyDecrypt, allowAlice), with(), "deny", "no decrypt", false},
	{"Deny of something else", document(denyEncrypt, allowAlice), with(), "allow", "alice", false},
	{"Deny without any Allow", document(denyDecrypt), with(), "deny", "no decrypt", false},
	{"the first Deny decides", document(allowAlice, denyAll, denyDecrypt), with(), "deny", "no", false},
	{"the first Allow decides", document(allowAll, allowAlice), with(), "allow", "all", false},
	{"an Allow for the caller before one for its account", document(allowRoot, allowAlice), with(), "allow", "alice", false},
	{"an Allow for the account only", document(allowRoot), with(), "delegate", "root", false},
	{"an Allow for the account, root asks", document(allowRoot), by(root), "allow", "root", false},
	{"two Allows for the account: the first one", document(rootDecrypt, allowRoot), text(viaService, "x"), "delegate", "root decrypt", false},
	{"a Deny beats the account's Allow", document(allowRoot, denyDecrypt), with(), "deny", "no decrypt", false},
	{"a Deny binds root too", document(allowRoot, denyDecrypt), by(root), "deny", "no decrypt", false},
	{"a Deny binds the owner too", document(allowRoot, denyDecrypt), by(owner), "deny", "no decrypt", false},
	{"the account's condition does not hold", document(rootDecrypt), with(), "none", "", false},
	{"the account's condition holds", document(rootDecrypt), text(viaService, "x"), "delegate", "root decrypt", false},
	{"a Deny that may be meant", document(allowAll, denyFinance), by(noGroups), "deny", "no finance", true},
	{"a Deny that is meant", document(allowAll, denyFinance), by(unixAlice), "deny", "no finance", false},
	{"a Deny that is not meant", document(allowAll, denyFinance), by(unixBob), "allow", "all", false},
	{"a single statement without a list", `{"Statement": ` + allowAlice + `}`, with(), "allow", "alice", false},
	{"the older version", documentOf("2008-10-17", allowAlice), with(), "allow", "alice", false},
	{"the older version has no variables", documentOf("2008-10-17", `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:u": "${aws:username}"}}}`), context("u", "alice"), "none", "", false},
	{"the older version takes variables as text", documentOf("2008-10-17", `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:u": "${aws:username}"}}}`), context("u", "${aws:username}"), "allow", "", false},
	{"no version is the older one", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:u": "${nothing}"}}}}`, context("u", "${nothing}"), "allow", "", false},
	{"two operators: both hold", document(`{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": "x"}, "Null": {"aws:SourceIp": true}}}`), text(viaService, "x"), "allow", "", false},
	{"two operators: one holds", document(`{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": "x"}, "Null": {"aws:SourceIp": true}}}`), with(text(viaService, "x"), addr("10.0.0.1")), "none", "", false},
	{"a statement without effect does not deny", document(allowAll, `{"Effect": "Deny", "Principal": "*", "Action": "kms:*"}`), with(), "allow", "all", false},
	{"an empty Condition", document(`{"Sid": "c", "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {}}`), with(), "allow", "c", false},
	{"the user who is outside its program", document(`{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:unix/user/alice"}, "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kmsfs:Program": "/bin/a"}}}`), with(by(unixAlice), text("kmsfs:Program", "/bin/b")), "none", "", false},
	{"a Deny of a program needs no user", document(allowAll, `{"Sid": "p", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kmsfs:Program": "/bin/a"}}}`), text("kmsfs:Program", "/bin/a"), "deny", "p", false},
	{"a Deny of all programs but one, none known", document(allowAll, `{"Sid": "p", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"kmsfs:Program": "/bin/a"}}}`), unknown("kmsfs:Program"), "deny", "p", true},
}

func TestDocuments(t *testing.T) {
	for _, c := range documentCases {
		t.Run(c.name, func(t *testing.T) {
			got := parse(t, policy.Rules{}, c.document).Evaluate(request(c.request))
			if outcome(got) != c.want || got.Sid != c.sid || got.Unresolved != c.unsure {
				t.Errorf("%s by %q, unresolved %v; want %s by %q, unresolved %v", outcome(got), got.Sid, got.Unresolved, c.want, c.sid, c.unsure)
			}
			if (got.Statement < 0) != (c.want == "none") {
				t.Errorf("statement %d for %s", got.Statement, c.want)
			}
		})
	}
}

// TestDecisionPlace: a decision names the statement's index and place.
func TestDecisionPlace(t *testing.T) {
	d := parse(t, policy.Rules{}, "{\n \"Statement\": [\n  "+allowAlice+",\n\n      "+denyEncrypt+"\n]}")
	got := d.Evaluate(request(action("kms:Encrypt")))
	want := policy.Decision{Effect: policy.ExplicitDeny, Statement: 1, Sid: "no encrypt", Line: 5, Column: 7}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s := d.Statements(); len(s) != 2 || s[1].Line != 5 || s[0].Principals[0] != iam+"user/alice" || s[1].Effect != policy.ExplicitDeny {
		t.Errorf("statements: %+v", s)
	}
}

var (
	mayDecrypt  = `{"Version": "2012-10-17", "Statement": {"Sid": "may", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}}`
	mayNothing  = `{"Version": "2012-10-17", "Statement": {"Sid": "may not", "Effect": "Deny", "Action": "*", "Resource": "*"}}`
	mayEncrypt  = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*"}}`
	mayOtherKey = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "` + keyTwo + `"}}`
)

// combineCases: key policy, identity policies and grants together. All are about alice's Decrypt unless the request says otherwise.
var combineCases = []struct {
	name     string
	key      string // "" for an operation without a key
	identity []string
	grants   int
	request  option
	want     string
	source   policy.Source
}{
	{"key policy names the caller", document(allowAlice), nil, 0, with(), "allow", policy.FromKeyPolicy},
	{"key policy names the caller, its identity policy is about something else", document(allowAlice), []string{mayEncrypt}, 0, with(), "allow", policy.FromKeyPolicy},
	{"key policy names the caller, its identity policy denies", document(allowAlice), []string{mayNothing}, 0, with(), "deny", policy.FromIdentityPolicy},
	{"key policy denies, identity policy allows", document(denyDecrypt, allowRoot), []string{mayDecrypt}, 0, with(), "deny", policy.FromKeyPolicy},
	{"key policy delegates, no identity policy", document(allowRoot), nil, 0, with(), "none", policy.FromIdentityPolicy},
	{"key policy delegates, identity policy allows", document(allowRoot), []string{mayDecrypt}, 0, with(), "allow", policy.FromIdentityPolicy},
	{"key policy delegates, identity policy allows something else", document(allowRoot), []string{mayEncrypt}, 0, with(), "none", policy.FromIdentityPolicy},
	{"key policy delegates, identity policy allows another key", document(allowRoot), []string{mayOtherKey}, 0, with(), "none", policy.FromIdentityPolicy},
	{"key policy delegates, the second identity policy allows", document(allowRoot), []string{mayEncrypt, mayDecrypt}, 0, with(), "allow", policy.FromIdentityPolicy},
	{"key policy delegates, one identity policy allows, one denies", document(allowRoot), []string{mayDecrypt, mayNothing}, 0, with(), "deny", policy.FromIdentityPolicy},
	{"key policy delegates, root asks", document(allowRoot), nil, 0, by(root), "allow", policy.FromKeyPolicy},
	{"key policy says nothing, identity policy allows", document(denyEncrypt), []string{mayDecrypt}, 0, with(), "none", policy.FromKeyPolicy},
	{"key policy says nothing, root asks", document(denyEncrypt), nil, 0, by(root), "none", policy.FromKeyPolicy},
	{"key policy delegates another action", document(`{"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "kms:Encrypt", "Resource": "*"}`), []string{mayDecrypt}, 0, with(), "none", policy.FromKeyPolicy},
	{"key policy delegates to another account", document(`{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}`), []string{mayDecrypt}, 0, with(), "none", policy.FromKeyPolicy},
	{"key policy delegates to a user of the host", document(allowRoot), []string{mayDecrypt}, 0, by(unixAlice), "allow", policy.FromIdentityPolicy},
	{"everybody of this account through a service", document(`{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*", "Condition": {"StringEquals": {"kms:CallerAccount": "000000000000", "kms:ViaService": "kmsfs.local.amazonaws.com"}}}`), nil, 0, text(viaService, fileDaemon), "allow", policy.FromKeyPolicy},
	{"the same, directly", document(`{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*", "Condition": {"StringEquals": {"kms:CallerAccount": "000000000000", "kms:ViaService": "kmsfs.local.amazonaws.com"}}}`), nil, 0, with(), "none", policy.FromKeyPolicy},

	{"a grant alone", document(denyEncrypt), nil, 1, with(), "allow", policy.FromGrant},
	{"a grant where the key policy delegates", document(allowRoot), nil, 1, with(), "allow", policy.FromGrant},
	{"two grants", document(denyEncrypt), nil, 2, with(), "allow", policy.FromGrant},
	{"a grant against a Deny of the key policy", document(denyDecrypt), nil, 1, with(), "deny", policy.FromKeyPolicy},
	{"a grant against a Deny of an identity policy", document(allowRoot), []string{mayNothing}, 1, with(), "deny", policy.FromIdentityPolicy},
	{"a grant against a Deny of another action", document(denyEncrypt, allowRoot), nil, 1, with(), "allow", policy.FromGrant},
	{"a grant against a Deny for a group the caller may be in", document(denyFinance), nil, 1, by(noGroups), "deny", policy.FromKeyPolicy},
	{"a grant and an Allow", document(allowAlice), nil, 1, with(), "allow", policy.FromKeyPolicy},
	{"a grant and an identity policy that does not count", document(denyEncrypt), []string{mayDecrypt}, 1, with(), "allow", policy.FromGrant},

	{"no key: identity policy allows", "", []string{mayDecrypt}, 0, with(), "allow", policy.FromIdentityPolicy},
	{"no key: no identity policy", "", nil, 0, with(), "none", policy.FromIdentityPolicy},
	{"no key: identity policies contradict", "", []string{mayDecrypt, mayNothing}, 0, with(), "deny", policy.FromIdentityPolicy},
	{"no key: about something else", "", []string{mayEncrypt}, 0, with(), "none", policy.FromIdentityPolicy},
}

func TestCombine(t *testing.T) {
	for _, c := range combineCases {
		t.Run(c.name, func(t *testing.T) {
			r := request(c.request)
			var key *policy.Decision
			if c.key != "" {
				d := parse(t, policy.Rules{}, c.key).Evaluate(r)
				key = &d
			}
			var identity []policy.Decision
			for _, doc := range c.identity {
				identity = append(identity, parse(t, policy.Rules{Kind: policy.IdentityPolicy}, doc).Evaluate(r))
			}
			got := policy.Combine(key, identity, slices.Repeat([]policy.Decision{policy.ByGrant()}, c.grants))
			if outcome(got) != c.want || got.Source != c.source {
				t.Errorf("%s from %s, want %s from %s", outcome(got), got.Source, c.want, c.source)
			}
		})
	}
}

// TestDenial holds the texts that clients see, and match.
func TestDenial(t *testing.T) {
	for _, c := range []struct {
		d    policy.Decision
		r    policy.Request
		want string
	}{
		{policy.Decision{}, request(), "User: arn:aws:iam::000000000000:user/alice is not authorized to perform: kms:Decrypt on resource: " + keyOne +
			" because no resource-based policy allows the kms:Decrypt action"},
		{policy.Decision{Source: policy.FromIdentityPolicy}, request(resource(""), action("kms:ListKeys")),
			"User: arn:aws:iam::000000000000:user/alice is not authorized to perform: kms:ListKeys because no identity-based policy allows the kms:ListKeys action"},
		{policy.Decision{Effect: policy.ExplicitDeny}, request(), "User: arn:aws:iam::000000000000:user/alice is not authorized to perform: kms:Decrypt on resource: " +
			keyOne + " with an explicit deny in a resource-based policy"},
		{policy.Decision{Effect: policy.ExplicitDeny, Source: policy.FromIdentityPolicy}, request(resource("")),
			"User: arn:aws:iam::000000000000:user/alice is not authorized to perform: kms:Decrypt with an explicit deny in an identity-based policy"},
	} {
		if got := policy.Denial(c.r, c.d); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// lockoutCases: whether the caller may put this policy on a key.
var lockoutCases = []struct {
	name     string
	document string
	identity []string
	request  option
	ok       bool
}{
	{"the default policy, root", string(policy.DefaultPolicy(acct)), nil, by(root), true},
	{"the default policy, the owner", string(policy.DefaultPolicy(acct)), nil, by(owner), true},
	{"the default policy, a user without rights", string(policy.DefaultPolicy(acct)), nil, with(), false},
	{"the default policy, a user with the right", string(policy.DefaultPolicy(acct)), []string{`{"Statement": {"Effect": "Allow", "Action": "kms:PutKeyPolicy", "Resource": "*"}}`}, with(), true},
	{"the default policy, a user with other rights", string(policy.DefaultPolicy(acct)), []string{mayDecrypt}, with(), false},
	{"the default policy with an owner, that owner", string(policy.DefaultPolicy(acct, unixAlice.ARN)), nil, by(unixAlice), true},
	{"the default policy with an owner, another", string(policy.DefaultPolicy(acct, unixAlice.ARN)), nil, by(unixBob), false},
	{"the default policy with two owners, the second", string(policy.DefaultPolicy(acct, unixAlice.ARN, unixBob.ARN)), nil, by(unixBob), true},
	{"names the caller", document(allowAlice), nil, with(), true},
	{"names another", document(allowAlice), nil, by(bob), false},
	{"names another, root asks", document(allowAlice), nil, by(root), false},
	{"names the caller for other actions", document(`{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}`), nil, with(), false},
	{"denies PutKeyPolicy", document(allowAlice, `{"Effect": "Deny", "Principal": "*", "Action": "kms:Put*", "Resource": "*"}`), nil, with(), false},
	{"the caller's identity policy denies", document(allowAlice), []string{mayNothing}, with(), false},
	{"under a condition that does not hold", document(`{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}`), nil, with(), false},
	{"under a condition that holds", document(`{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}`), nil, addr("10.0.0.1"), true},
	{"for another key", document(`{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "` + keyTwo + `"}`), nil, with(), false},
	{"Resource is missing", document(`{"Effect": "Allow", "Principal": "*", "Action": "kms:*"}`), nil, with(), false},
	{"for all but the caller", document(allowAll, `{"Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::000000000000:user/staff/bob"}, "Action": "*", "Resource": "*"}`), nil, with(), false},
	{"a Deny that may be meant", document(allowAll, denyFinance), nil, by(noGroups), false},
}

func TestLockout(t *testing.T) {
	for _, c := range lockoutCases {
		t.Run(c.name, func(t *testing.T) {
			var identity []*policy.Document
			for _, doc := range c.identity {
				identity = append(identity, parse(t, policy.Rules{Kind: policy.IdentityPolicy}, doc))
			}
			err := policy.LockoutCheck(parse(t, policy.Rules{}, c.document), identity, request(c.request))
			if (err == nil) != c.ok || err != nil && !errors.Is(err, policy.ErrLockout) {
				t.Errorf("error %v, want ok %v", err, c.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "PutKeyPolicy") {
				t.Errorf("error %q does not say what is missing", err)
			}
		})
	}
}

// TestDefaultPolicy: the text is AWS'.
func TestDefaultPolicy(t *testing.T) {
	const want = `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
	if got := string(policy.DefaultPolicy("111122223333")); got != want {
		t.Errorf("got %s", got)
	}
	d := parse(t, policy.Rules{}, string(policy.DefaultPolicy(acct, unixAlice.ARN, `arn:aws:iam::000000000000:unix/user/a"b`)))
	if d.ID() != "key-default-1" || len(d.Statements()) != 2 || len(d.Statements()[1].Principals) != 2 {
		t.Errorf("with owners: %+v", d.Statements())
	}
	defer func() {
		if recover() == nil {
			t.Error("an owner that is no ARN was accepted")
		}
	}()
	policy.DefaultPolicy(acct, "alice")
}

// TestPrincipalCovers is how grants find their grantee.
func TestPrincipalCovers(t *testing.T) {
	for _, c := range []struct {
		arn  string
		who  policy.Principal
		want bool
	}{
		{iam + "user/alice", alice, true},
		{iam + "user/alice", bob, false},
		{iam + "root", alice, true},
		{acct, session, true},
		{foreign, alice, false},
		{iam + "role/backup", session, true},
		{iam + "unix/user/alice", unixAlice, true},
		{iam + "unix/user/alice", noName, false},
		{iam + "unix/group/finance", unixAlice, true},
		{iam + "unix/group/finance", noGroups, false},
	} {
		if got, err := policy.PrincipalCovers(c.arn, c.who); err != nil || got != c.want {
			t.Errorf("%s for %s: %v, %v; want %v", c.arn, c.who.ARN, got, err, c.want)
		}
	}
	for _, arn := range []string{"", "*", "alice", iam + "user/*", iam + "group/x", "arn:aws:kms:local:000000000000:key/x"} {
		if _, err := policy.PrincipalCovers(arn, alice); !errors.Is(err, policy.ErrInvalidPrincipal) {
			t.Errorf("%q: error %v", arn, err)
		}
	}
}
