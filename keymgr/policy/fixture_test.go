package policy_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

const (
	acct    = "000000000000"
	foreign = "111122223333"
	iam     = "arn:aws:iam::000000000000:"
	keyOne  = "arn:aws:kms:local:000000000000:key/11111111-1111-4111-8111-111111111111"
	keyTwo  = "arn:aws:kms:local:000000000000:key/22222222-2222-4222-8222-222222222222"
)

// The callers of the tables.
var (
	alice     = policy.Principal{ARN: iam + "user/alice", Account: acct, UserID: "AIDAALICE"}
	bob       = policy.Principal{ARN: iam + "user/staff/bob", Account: acct}
	root      = policy.Principal{ARN: iam + "root", Account: acct}
	session   = policy.Principal{ARN: "arn:aws:sts::000000000000:assumed-role/backup/nightly", Account: acct}
	stranger  = policy.Principal{ARN: "arn:aws:iam::111122223333:user/alice", Account: foreign}
	nobody    = policy.Principal{}
	service   = policy.Principal{Service: "kmsfs.local.amazonaws.com"}
	unixAlice = policy.Principal{ARN: policy.UserARN(acct, "alice"), Account: acct,
		Unix: &policy.Unix{UID: 1000, User: "alice", Groups: []string{"alice", "finance"}}}
	unixBob = policy.Principal{ARN: policy.UserARN(acct, "bob"), Account: acct,
		Unix: &policy.Unix{UID: 1001, User: "bob", Groups: []string{"bob"}}}
	// mapped is an API identity that a user of the host stands behind.
	mapped = policy.Principal{ARN: iam + "user/carol", Account: acct,
		Unix: &policy.Unix{UID: 1002, User: "carol", Groups: []string{"dev"}}}
	owner = policy.Principal{ARN: policy.UserARN(acct, "olga"), Account: acct, Root: true,
		Unix: &policy.Unix{UID: 500, User: "olga", Groups: []string{"olga"}}}
	// Callers about whom not everything could be found out.
	noGroups = policy.Principal{ARN: policy.UserARN(acct, "dora"), Account: acct,
		Unix: &policy.Unix{UID: 1003, User: "dora", Groups: []string{"dora", "5001"}, UnresolvedGroups: true}}
	noName = policy.Principal{ARN: policy.UserARN(acct, "1004"), Account: acct,
		Unix: &policy.Unix{UID: 1004, Groups: []string{"dev"}, UnresolvedUser: true}}
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// option changes a request.
type option func(*policy.Request)

func with(options ...option) option {
	return func(r *policy.Request) {
		for _, o := range options {
			o(r)
		}
	}
}

func by(p policy.Principal) option { return func(r *policy.Request) { r.Principal = p } }
func text(key string, values ...string) option {
	return func(r *policy.Request) { r.Context.Text(key, values...) }
}
func flag(key string, v bool) option { return func(r *policy.Request) { r.Context.Bool(key, v) } }
func number(key string, v int64) option {
	return func(r *policy.Request) { r.Context.Number(key, v) }
}
func addr(v string) option {
	return func(r *policy.Request) { r.Context.Addr("aws:SourceIp", netip.MustParseAddr(v)) }
}
func digest(v []byte) option {
	return func(r *policy.Request) { r.Context.Digest("kmsfs:ProgramSha256", v) }
}
func at(t time.Time) option       { return func(r *policy.Request) { r.Time = t } }
func unknown(key string) option   { return func(r *policy.Request) { r.Context.Unknown(key) } }
func defaulted(key string) option { return func(r *policy.Request) { r.Context.Defaulted(key) } }
func action(name string) option   { return func(r *policy.Request) { r.Action = name } }
func resource(arn string) option  { return func(r *policy.Request) { r.Resource = arn } }
func context(pairs ...string) option { // name, value, name, value
	return func(r *policy.Request) {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		r.Context.EncryptionContext(m)
	}
}

// request is alice's Decrypt of the first key at noon, changed by the options.
func request(options ...option) policy.Request {
	r := policy.Request{Principal: alice, Action: "kms:Decrypt", Resource: keyOne, Time: noon}
	with(options...)(&r)
	return r
}

func parse(t *testing.T, rules policy.Rules, document string) *policy.Document {
	t.Helper()
	d, err := rules.Parse([]byte(document))
	if err != nil {
		t.Fatalf("parse %s: %v", document, err)
	}
	return d
}

// outcome is a decision in one word.
func outcome(d policy.Decision) string {
	switch {
	case d.Effect == policy.Allow:
		return "allow"
	case d.Effect == policy.ExplicitDeny:
		return "deny"
	case d.Delegated:
		return "delegate"
	}
	return "none"
}

// document makes a key policy of statements.
func document(statements ...string) string { return documentOf("2012-10-17", statements...) }

func documentOf(version string, statements ...string) string {
	list := ""
	for i, s := range statements {
		if i > 0 {
			list += ", "
		}
		list += s
	}
	return fmt.Sprintf(`{"Version": %q, "Statement": [%s]}`, version, list)
}
