package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"white space, order, lists of one", `
{ "Statement" : [ { "Resource" : ["*"], "Action" : ["kms:*"], "Principal" : {"AWS": ["*"]}, "Effect" : "Allow", "Sid": "" } ],
  "Id" : "", "Version" : "2012-10-17" }`,
			`{"Version":"2012-10-17","Id":"","Statement":{"Sid":"","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`},
		{"nothing is added", `{"Statement":{"Effect":"Deny","Principal":"*"}}`, `{"Statement":{"Effect":"Deny","Principal":"*"}}`},
		{"kinds of principals", `{"Statement":{"Effect":"Deny","NotPrincipal":{"Service":["a.b","c.d"],"AWS":["000000000000"]},"NotAction":["kms:Sign","kms:Verify"],"NotResource":["a:b:c:d:e:f"]}}`,
			`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"000000000000","Service":["a.b","c.d"]},"NotAction":["kms:Sign","kms:Verify"],"NotResource":"a:b:c:d:e:f"}}`},
		{"everybody in a list", `{"Statement":{"Effect":"Deny","Principal":{"AWS":["*","000000000000"]}}}`, `{"Statement":{"Effect":"Deny","Principal":{"AWS":["*","000000000000"]}}}`},
		{"an empty Condition", `{"Statement":{"Effect":"Deny","Principal":"*","Condition":{}}}`, `{"Statement":{"Effect":"Deny","Principal":"*"}}`},
		{"conditions are sorted and spelt", `{"Statement":{"Effect":"Deny","Principal":"*","Condition":{
			"StringEquals":{"KMS:VIASERVICE":["x"],"AWS:username":["y","z"],"kms:encryptioncontext:App":"v"},
			"ForAnyValue:StringLike":{"kms:grantoperations":"*"},
			"BoolIfExists":{"aws:SecureTransport":[true]},"NumericEquals":{"kmsfs:uid":[1,"2",3.0]}}}}`,
			`{"Statement":{"Effect":"Deny","Principal":"*","Condition":{"BoolIfExists":{"aws:SecureTransport":true},"ForAnyValue:StringLike":{"kms:GrantOperations":"*"},` +
				`"NumericEquals":{"kmsfs:Uid":[1,"2",3.0]},"StringEquals":{"aws:username":["y","z"],"kms:EncryptionContext:App":"v","kms:ViaService":"x"}}}}`},
		{"escapes", `{"Id":"\u00e4\/\u0041\u0022\\\u005c\n\u000a\u0000\u001F<\u4e2d\ud83d\ude00\u007f","Statement":{"Effect":"Deny","Principal":"*"}}`,
			"{\"Id\":\"ä/A\\\"\\\\\\\\\\n\\n\\u0000\\u001f<\\u4e2d\\ud83d\\ude00\x7f\",\"Statement\":{\"Effect\":\"Deny\",\"Principal\":\"*\"}}"},
		{"two statements", `{"Statement":[{"Effect":"Deny","Principal":"*"} , {"Effect":"Allow","Principal":"*"}]}`,
			`{"Statement":[{"Effect":"Deny","Principal":"*"},{"Effect":"Allow","Principal":"*"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, policy.Rules{}, c.document)
			if got := string(d.Canonical()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			stable(t, policy.Rules{}, d)
		})
	}
}

// stable: the canonical form parses, is its own canonical form, is JSON, and is not longer than what was given.
func stable(t *testing.T, rules policy.Rules, d *policy.Document) {
	t.Helper()
	form := d.Canonical()
	again, err := rules.Parse(form)
	if err != nil {
		t.Fatalf("canonical form %s of %s: %v", form, d.Source(), err)
	}
	if twice := again.Canonical(); !bytes.Equal(form, twice) {
		t.Fatalf("canonical form of %s is %s, and its own %s", d.Source(), form, twice)
	}
	if len(form) > len(d.Source()) {
		t.Fatalf("canonical form %s is longer than %s", form, d.Source())
	}
	if !json.Valid(form) || !json.Valid(d.Source()) {
		t.Fatalf("not JSON: %s, %s", form, d.Source())
	}
}

// TestSource: the bytes as given are kept, whatever happens to the caller's.
func TestSource(t *testing.T) {
	given := []byte(" " + document(allowAlice) + "\n")
	d, err := policy.Parse(given)
	if err != nil {
		t.Fatal(err)
	}
	want := string(given)
	given[1] = 'x'
	d.Source()[1] = 'y'
	if string(d.Source()) != want {
		t.Errorf("got %s", d.Source())
	}
}

// FuzzParse: no input crashes the parser, and what it accepts has a stable canonical form, under each kind of rules.
func FuzzParse(f *testing.F) {
	f.Add([]byte(document(allowAlice, denyAll)))
	f.Add(policy.DefaultPolicy(acct, unixAlice.ARN))
	for _, c := range documentCases {
		f.Add([]byte(c.document))
	}
	for _, table := range [][]conditionCase{stringCases, dateCases, otherCases, setCases, variableCases} {
		for _, c := range table {
			f.Add([]byte(document(`{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {` + c.condition + `}}`)))
		}
	}
	f.Add([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:*:key/${aws:username, 'x'}"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, rules := range []policy.Rules{{}, {Kind: policy.IdentityPolicy}, {Kind: policy.DirectoryPolicy}} {
			d, err := rules.Parse(text)
			if err != nil {
				checkRefusal(t, text, err)
				continue
			}
			stable(t, rules, d)
			r := request(context("a", "b"))
			got, again := d.Evaluate(r), parse(t, rules, string(d.Canonical())).Evaluate(r)
			again.Line, again.Column = got.Line, got.Column
			if got != again {
				t.Fatalf("%s decides %+v, its canonical form %+v", text, got, again)
			}
		}
	})
}

// checkRefusal: a refusal has a place within the document, and a reason.
func checkRefusal(t *testing.T, text []byte, err error) {
	t.Helper()
	e, ok := err.(*policy.Error)
	if !ok || e.Reason == "" || e.Class == nil {
		t.Fatalf("error %#v", err)
	}
	lines := bytes.Split(text, []byte("\n"))
	if e.Class != policy.ErrTooLarge && (e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1) {
		t.Fatalf("%q is refused at line %d, column %d", text, e.Line, e.Column)
	}
}

// TestBuild: nodes from another notation make the same document, and their places stand in errors and decisions.
func TestBuild(t *testing.T) {
	text := func(line int, s string) policy.Node {
		return policy.Node{Kind: policy.Text, Text: s, Line: line, Column: 3}
	}
	statement := policy.Node{Kind: policy.Object, Line: 7, Column: 3, Members: []policy.Member{
		{Name: "Effect", Line: 7, Column: 3, Value: text(7, "Allow")},
		{Name: "Principal", Line: 8, Column: 3, Value: text(8, "*")},
		{Name: "Action", Line: 9, Column: 3, Value: text(9, "kmsfs:Read")},
	}}
	root := policy.Node{Kind: policy.Object, Line: 1, Column: 1, Members: []policy.Member{
		{Name: "Statement", Line: 6, Column: 1, Value: policy.Node{Kind: policy.List, Items: []policy.Node{statement}}},
	}}
	rules := policy.Rules{Kind: policy.DirectoryPolicy}
	d, err := rules.Build(&root)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Evaluate(request(action("kmsfs:Read"))); got.Effect != policy.Allow || got.Line != 7 {
		t.Errorf("decision %+v", got)
	}
	if d.Source() != nil || string(d.Canonical()) != `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kmsfs:Read"}}` {
		t.Errorf("source %q, canonical %s", d.Source(), d.Canonical())
	}
	root.Members[0].Value.Items[0].Members = append(statement.Members, policy.Member{Name: "Effect", Line: 10, Column: 3, Value: text(10, "Deny")})
	if d, err := rules.Build(&root); err == nil || d != nil || err.Error() != "line 10, column 3: Effect stands twice" {
		t.Errorf("an element twice: %v, %v", d, err)
	}
}

// TestBuildValues: a value that JSON would not write without quotes gets them.
func TestBuildValues(t *testing.T) {
	const document = `{"Statement":{"Effect":"Deny","Principal":"*","Action":"*","Condition":{"NumericEquals":{"kmsfs:Uid":%s}}}}`
	for given, want := range map[string]string{"7": "7", "007": `"007"`, "-1.5": "-1.5"} {
		root := policy.Node{Kind: policy.Object, Members: []policy.Member{{Name: "Statement", Value: policy.Node{Kind: policy.Object, Members: []policy.Member{
			{Name: "Effect", Value: policy.Node{Kind: policy.Text, Text: "Deny"}},
			{Name: "Principal", Value: policy.Node{Kind: policy.Text, Text: "*"}},
			{Name: "Action", Value: policy.Node{Kind: policy.Text, Text: "*"}},
			{Name: "Condition", Value: policy.Node{Kind: policy.Object, Members: []policy.Member{
				{Name: "NumericEquals", Value: policy.Node{Kind: policy.Object, Members: []policy.Member{
					{Name: "kmsfs:Uid", Value: policy.Node{Kind: policy.Number, Text: given}}}}}}}},
		}}}}}
		d, err := policy.Rules{Kind: policy.DirectoryPolicy}.Build(&root)
		if err != nil || string(d.Canonical()) != fmt.Sprintf(document, want) {
			t.Errorf("%s: %v, %s", given, err, d.Canonical())
		}
	}
}
