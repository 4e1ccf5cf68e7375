package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// TestContextMistakes: what a program must not do to a Context, because a Deny could miss its key.
func TestContextMistakes(t *testing.T) {
	for name, mistake := range map[string]func(*policy.Context){
		"no such key":            func(c *policy.Context) { c.Text("kms:ViaServices", "x") },
		"key of the principal":   func(c *policy.Context) { c.Text("aws:username", "x") },
		"key of the time":        func(c *policy.Context) { c.Number("aws:EpochTime", 1) },
		"groups":                 func(c *policy.Context) { c.Text("kmsfs:Groups", "x") },
		"text for a number":      func(c *policy.Context) { c.Text("kms:RotationPeriodInDays", "90") },
		"text for a Boolean":     func(c *policy.Context) { c.Text("aws:SecureTransport", "true") },
		"text for an address":    func(c *policy.Context) { c.Text("aws:SourceIp", "10.0.0.1") },
		"text for a digest":      func(c *policy.Context) { c.Text("kmsfs:ProgramSha256", "ab") },
		"number for text":        func(c *policy.Context) { c.Number("kms:ViaService", 1) },
		"Boolean for text":       func(c *policy.Context) { c.Bool("kms:ViaService", true) },
		"two values of one":      func(c *policy.Context) { c.Text("kms:ViaService", "x", "y") },
		"default of nothing":     func(c *policy.Context) { c.Defaulted("kms:Nothing") },
		"unknown of nothing":     func(c *policy.Context) { c.Unknown("kms:Nothing") },
		"the whole of a family":  func(c *policy.Context) { c.Unknown("kms:EncryptionContext:") },
		"digest of wrong length": func(c *policy.Context) { c.Digest("kmsfs:ProgramSha256", []byte{1}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r := recover(); r == nil || !strings.HasPrefix(fmt.Sprint(r), "policy: condition key") {
					t.Errorf("panic %v", r)
				}
			}()
			var c policy.Context
			mistake(&c)
		})
	}
}

// TestContextAgain: setting a key again replaces its values, of families too.
func TestContextAgain(t *testing.T) {
	d := parse(t, policy.Rules{}, document(`{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {
		"StringEquals": {"kms:EncryptionContext:a": "2", "kms:ViaService": "y"}, "Null": {"kms:EncryptionContext:b": true, "aws:SourceIp": true, "aws:UserAgent": true}}}`))
	r := request(context("a", "1", "b", "1"), text(viaService, "x"), text("aws:UserAgent", "x"), addr("10.0.0.1"))
	if d.Evaluate(r).Effect == policy.Allow {
		t.Error("allowed with the first values")
	}
	r.Context.EncryptionContext(map[string]string{"a": "2"})
	r.Context.Text(viaService, "y")
	r.Context.Text("aws:UserAgent")
	r.Context.Addr("aws:SourceIp", netip.Addr{})
	if d.Evaluate(r).Effect != policy.Allow {
		t.Error("not allowed with the second values")
	}
}

// TestPrincipalKeys: the condition keys that describe a caller.
func TestPrincipalKeys(t *testing.T) {
	for _, c := range []struct {
		who                             policy.Principal
		username, kind, arn, id, accout string
	}{
		{alice, "alice", "User", iam + "user/alice", "AIDAALICE", acct},
		{bob, "bob", "User", iam + "user/staff/bob", "", acct},
		{root, "", "Account", iam + "root", acct, acct},
		{owner, "olga", "Account", iam + "unix/user/olga", acct, acct},
		{session, "", "AssumedRole", iam + "role/backup", "", acct},
		{policy.Principal{ARN: iam + "role/backup", Account: acct}, "", "AssumedRole", iam + "role/backup", "", acct},
		{policy.Principal{ARN: "arn:aws:sts::000000000000:federated-user/f", Account: acct}, "", "FederatedUser", "arn:aws:sts::000000000000:federated-user/f", "", acct},
		{unixAlice, "alice", "User", iam + "unix/user/alice", "", acct},
		{mapped, "carol", "User", iam + "user/carol", "", acct},
		{service, "", "", "", "", ""},
		{nobody, "", "Anonymous", "", "", ""},
	} {
		for key, want := range map[string]string{"aws:username": c.username, "aws:PrincipalType": c.kind, "aws:PrincipalArn": c.arn,
			"aws:userid": c.id, "aws:PrincipalAccount": c.accout, "kms:CallerAccount": c.accout} {
			condition := fmt.Sprintf(`"StringEquals": {%q: %q}`, key, want)
			if want == "" {
				condition = fmt.Sprintf(`"Null": {%q: true}`, key)
			}
			d := parse(t, policy.Rules{}, document(`{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {`+condition+`}}`))
			if d.Evaluate(request(by(c.who))).Effect != policy.Allow {
				t.Errorf("%+v: %s is not %q", c.who, key, want)
			}
		}
	}
}

// TestConcurrent: one document and one request, many goroutines.
func TestConcurrent(t *testing.T) {
	d := parse(t, policy.Rules{}, document(denyFinance, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {
		"StringLike": {"kms:EncryptionContext:user": "${aws:username}*"}, "DateLessThan": {"aws:CurrentTime": "2030-01-01"}}}`))
	r := request(context("user", "alice/x"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if d.Evaluate(r).Effect != policy.Allow {
					t.Error("denied")
				}
				d.Canonical()
			}
		})
	}
	wg.Wait()
}

// TestHostileCost: the worst that a document and a request of the allowed sizes can ask for ends soon.
func TestHostileCost(t *testing.T) {
	pattern := "*" + strings.Repeat("a", policy.MaxPattern-2) + "b"
	statement := `{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringLike": {"kms:EncryptionContext:x": "` + pattern + `"}}}`
	statements := make([]string, 5)
	for i := range statements {
		statements[i] = statement
	}
	d := parse(t, policy.Rules{}, document(statements...))
	r := request(context("x", strings.Repeat("a", 8<<10)))
	start := time.Now()
	if got := d.Evaluate(r); got.Effect != policy.ImplicitDeny {
		t.Errorf("decision %+v", got)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("a decision took %v", took)
	}
}

// BenchmarkEvaluate is a key policy as it is used: 20 statements, the last of which decides.
func BenchmarkEvaluate(b *testing.B) {
	var statements []string
	for i := range 19 {
		statements = append(statements, fmt.Sprintf(`{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:unix/user/u%d"}, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*",
			"Condition": {"StringEquals": {"kms:ViaService": "kmsfs.local.amazonaws.com"}}}`, i))
	}
	statements = append(statements, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:unix/user/alice"}, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*",
		"Condition": {"StringEquals": {"kms:ViaService": "kmsfs.local.amazonaws.com", "kms:EncryptionContext:kmsfs:volume": "v"}}}`)
	d, err := policy.Parse([]byte(document(statements...)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := request(by(unixAlice), text(viaService, fileDaemon), context("kmsfs:volume", "v", "kmsfs:zone", "z"))
		if d.Evaluate(r).Effect != policy.Allow {
			b.Fatal("denied")
		}
	}
}
