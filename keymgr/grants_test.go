package keymgr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

func (f *fixture) grant(t *testing.T, by Caller, in CreateGrantInput) NewGrant {
	t.Helper()
	g, err := f.CreateGrant(t.Context(), by, in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var (
	alice = local("alice")
	bob   = local("bob")
)

func (f *fixture) mayEncrypt(by Caller, keyID string, c Context, tokens ...string) error {
	_, err := f.Encrypt(context.Background(), by, EncryptInput{KeyID: keyID, Plaintext: []byte("p"), Context: c, Tokens: tokens})
	return err
}

// TestGrantConstraints: which encryption contexts a grant lets through. Names have no case, values have.
func TestGrantConstraints(t *testing.T) {
	for i, c := range []struct {
		equals, subset, request Context
		allowed                 bool
	}{
		{nil, nil, nil, true},
		{nil, nil, Context{"a": "b"}, true},
		{Context{"a": "b"}, nil, Context{"a": "b"}, true},
		{Context{"a": "b"}, nil, Context{"A": "b"}, true},
		{Context{"A": "b"}, nil, Context{"a": "b"}, true},
		{Context{"a": "b"}, nil, Context{"a": "B"}, false},
		{Context{"a": "b"}, nil, Context{"a": "b", "c": "d"}, false},
		{Context{"a": "b"}, nil, nil, false},
		{Context{"a": "b", "c": "d"}, nil, Context{"a": "b"}, false},
		{Context{"a": "bc"}, nil, Context{"ab": "c"}, false},
		{nil, Context{"a": "b"}, Context{"a": "b", "c": "d"}, true},
		{nil, Context{"a": "b"}, Context{"A": "b", "c": "d"}, true},
		{nil, Context{"a": "b"}, Context{"c": "d"}, false},
		{nil, Context{"a": "b"}, Context{"a": "x", "A": "b"}, false},
		{Context{"a": "b", "c": "d"}, Context{"a": "b"}, Context{"a": "b", "c": "d"}, true},
		{Context{"a": "b"}, Context{"c": "d"}, Context{"a": "b"}, false},
	} {
		f := newFixture(t)
		md := f.newKey(t, "")
		f.grant(t, me, CreateGrantInput{KeyID: md.ARN, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}, Constraints: GrantConstraints{c.equals, c.subset}})
		if err := f.mayEncrypt(alice, md.KeyID, c.request); (err == nil) != c.allowed || err != nil && !errors.Is(err, ErrAccessDenied) {
			t.Errorf("case %d: %v, want allowed %v", i, err, c.allowed)
		}
		if err := f.mayEncrypt(bob, md.KeyID, c.request); !errors.Is(err, ErrAccessDenied) {
			t.Errorf("case %d: somebody else: %v", i, err)
		}
	}
}

// TestGrantUse: a grant allows what it names, on its key, to its grantee, until it ends; a Deny beats it; what it allowed is recorded.
func TestGrantUse(t *testing.T) {
	s := newSubject(t)
	f, ctx := s.f, t.Context()
	g := f.grant(t, me, CreateGrantInput{KeyID: s.md.KeyID, Grantee: alice.Who.ARN, Retiring: bob.Who.ARN, Operations: []string{"Encrypt", "DescribeKey", "Decrypt"}})
	u := f.tape.last(1)[0]
	if u.Operation != "CreateGrant" || !strings.Contains(u.Detail, g.ID) || strings.Contains(fmt.Sprint(u), g.Token) {
		t.Errorf("recorded %+v", u)
	}
	f.reopen(t)
	if err := f.mayEncrypt(alice, s.md.KeyID, nil); err != nil {
		t.Fatal(err)
	}
	if u := f.tape.last(1)[0]; u.Reason != "grant "+g.ID {
		t.Errorf("recorded %+v", u)
	}
	if _, err := f.Decrypt(ctx, alice, DecryptInput{Blob: s.blob}); err != nil {
		t.Error(err)
	}
	if _, err := f.DescribeKey(ctx, alice, s.md.KeyID); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another operation": second(f.GenerateDataKey(ctx, alice, GenerateDataKeyInput{KeyID: s.md.KeyID, Bytes: 32})),
		"another key":       f.mayEncrypt(alice, s.other.KeyID, nil),
		"another user":      f.mayEncrypt(bob, s.md.KeyID, nil, g.Token),
		"the policy":        second(f.GetKeyPolicy(ctx, alice, s.md.KeyID, "")),
		"revoking":          f.RevokeGrant(ctx, alice, s.md.KeyID, g.ID, false),
		"retiring":          f.RetireGrant(ctx, alice, RetireGrantInput{Token: g.Token}),
	} {
		if !errors.Is(err, ErrAccessDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.setPolicy(t, s.md.KeyID, policyOf(`{"Effect":"Deny","Principal":{"AWS":"`+alice.Who.ARN+`"},"Action":"kms:Encrypt","Resource":"*"}`))
	if err := f.mayEncrypt(alice, s.md.KeyID, nil, g.Token); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("against a Deny: %v", err)
	}
	f.setPolicy(t, s.md.KeyID, policyOf())
	if err := f.RevokeGrant(ctx, me, s.md.KeyID, g.ID, true); !errors.Is(err, ErrDryRun) {
		t.Errorf("dry run: %v", err)
	}
	if err := f.RevokeGrant(ctx, me, s.md.ARN, g.ID, false); err != nil {
		t.Fatal(err)
	}
	for _, tokens := range [][]string{nil, {g.Token}} {
		if err := f.mayEncrypt(alice, s.md.KeyID, nil, tokens...); !errors.Is(err, ErrAccessDenied) {
			t.Errorf("after the revocation, %d tokens: %v", len(tokens), err)
		}
	}
	if err := f.RevokeGrant(ctx, me, s.md.KeyID, g.ID, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	if err := f.RevokeGrant(ctx, me, s.md.KeyID, "x", false); !errors.Is(err, ErrInvalidGrantID) {
		t.Errorf("no grant id: %v", err)
	}
	if err := f.RevokeGrant(ctx, me, s.md.KeyID, s.grant.ID, false); err != nil {
		t.Error(err)
	}
	f.noGrantRows(t)
}

// noGrantRows checks that no grant left anything behind.
func (f *fixture) noGrantRows(t *testing.T) {
	t.Helper()
	for _, kind := range []byte{rowGrant, rowGrantee, rowRetiring} {
		lo, hi := kindRange(kind)
		if err := f.store.View(t.Context(), func(r kv.Reader) error {
			return r.Scan(t.Context(), lo, hi, 0, func(k, _ []byte) bool { t.Errorf("row %x is left", k); return true })
		}); err != nil {
			t.Error(err)
		}
	}
}

// TestRetireRights: who may retire a grant.
func TestRetireRights(t *testing.T) {
	for name, c := range map[string]struct {
		by         Caller
		retiring   string
		operations []string
		allowed    bool
	}{
		"owner":                      {me, "", []string{"Encrypt"}, true},
		"retiring principal":         {bob, bob.Who.ARN, []string{"Encrypt"}, true},
		"grantee with RetireGrant":   {alice, "", []string{"Encrypt", "RetireGrant"}, true},
		"grantee as retiring":        {alice, alice.Who.ARN, []string{"Encrypt"}, true},
		"grantee without":            {alice, bob.Who.ARN, []string{"Encrypt"}, false},
		"somebody":                   {bob, "", []string{"Encrypt", "RetireGrant"}, false},
		"whole account may retire":   {bob, policy.RootARN(AccountID), []string{"Encrypt"}, true},
		"nobody":                     {Caller{}, "", []string{"RetireGrant"}, false},
		"front end's user, retiring": {forwarded(bob, "v"), bob.Who.ARN, []string{"Encrypt"}, false}, // changes are not forwarded
	} {
		for _, byToken := range []bool{true, false} {
			f := newFixture(t)
			md := f.newKey(t, "")
			g := f.grant(t, me, CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Retiring: c.retiring, Operations: c.operations})
			in := RetireGrantInput{KeyID: md.ARN, ID: g.ID}
			if byToken {
				in = RetireGrantInput{Token: g.Token}
			}
			err := f.RetireGrant(t.Context(), c.by, in)
			if (err == nil) != c.allowed || err != nil && !errors.Is(err, ErrAccessDenied) {
				t.Errorf("%s: %v, want allowed %v", name, err, c.allowed)
			}
			if err == nil {
				f.noGrantRows(t)
				if err := f.RetireGrant(t.Context(), c.by, in); !errors.Is(err, ErrNotFound) {
					t.Errorf("%s, again: %v", name, err)
				}
			}
		}
	}
	f := newFixture(t)
	md := f.newKey(t, "")
	for _, in := range []RetireGrantInput{{}, {Token: "x", KeyID: md.KeyID, ID: "y"}, {KeyID: md.KeyID}, {ID: strings.Repeat("ab", 32)}} {
		if err := f.RetireGrant(t.Context(), me, in); !errors.Is(err, ErrValidation) {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

// TestDelegation: a right to make grants that comes from a grant only narrows.
func TestDelegation(t *testing.T) {
	all := []string{"Encrypt", "Decrypt", "CreateGrant"}
	for i, c := range []struct {
		parent     GrantConstraints
		operations []string
		child      GrantConstraints
		allowed    bool
	}{
		{GrantConstraints{}, []string{"Encrypt"}, GrantConstraints{}, true},
		{GrantConstraints{}, all, GrantConstraints{Equals: Context{"a": "b"}}, true},
		{GrantConstraints{}, []string{"GenerateDataKey"}, GrantConstraints{}, false},
		{GrantConstraints{}, []string{"Encrypt", "DescribeKey"}, GrantConstraints{}, false},
		{GrantConstraints{Subset: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{}, false},
		{GrantConstraints{Subset: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Subset: Context{"a": "b"}}, true},
		{GrantConstraints{Subset: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Subset: Context{"A": "b", "c": "d"}}, true},
		{GrantConstraints{Subset: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Equals: Context{"a": "b", "c": "d"}}, true},
		{GrantConstraints{Subset: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Equals: Context{"c": "d"}}, false},
		{GrantConstraints{Subset: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Subset: Context{"a": "x"}}, false},
		{GrantConstraints{Equals: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Equals: Context{"a": "b"}}, true},
		{GrantConstraints{Equals: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Equals: Context{"a": "b", "c": "d"}}, false},
		{GrantConstraints{Equals: Context{"a": "b"}}, []string{"Encrypt"}, GrantConstraints{Subset: Context{"a": "b"}}, false},
	} {
		f := newFixture(t)
		md := f.newKey(t, "")
		parent := f.grant(t, me, CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Operations: all, Constraints: c.parent, Expires: f.now().Add(time.Hour)})
		child, err := f.CreateGrant(t.Context(), alice, CreateGrantInput{KeyID: md.KeyID, Grantee: bob.Who.ARN, Operations: c.operations, Constraints: c.child})
		if (err == nil) != c.allowed || err != nil && !errors.Is(err, ErrAccessDenied) {
			t.Errorf("case %d: %v, want allowed %v", i, err, c.allowed)
		}
		if err != nil {
			continue
		}
		list, err := f.ListGrants(t.Context(), me, md.KeyID, GrantFilter{ID: child.ID}, Page{})
		if err != nil || len(list.Grants) != 1 || !list.Grants[0].Expires.Equal(f.now().Add(time.Hour)) {
			t.Errorf("case %d: the child outlives its parent: %+v %v", i, list, err)
		}
		if err := f.RevokeGrant(t.Context(), me, md.KeyID, parent.ID, false); err != nil {
			t.Fatal(err)
		}
		if _, err := f.CreateGrant(t.Context(), alice, CreateGrantInput{KeyID: md.KeyID, Grantee: bob.Who.ARN, Operations: []string{"Encrypt"}, Constraints: c.child,
			Tokens: []string{parent.Token}}); !errors.Is(err, ErrAccessDenied) {
			t.Errorf("case %d: after the revocation: %v", i, err)
		}
	}
	f := newFixture(t) // a right from a policy is not bound
	md := f.newKey(t, "")
	f.setPolicy(t, md.KeyID, policyOf(allowUser("alice", "kms:CreateGrant", `{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]}}`)))
	f.grant(t, alice, CreateGrantInput{KeyID: md.KeyID, Grantee: bob.Who.ARN, Operations: []string{"Encrypt"}})
	if _, err := f.CreateGrant(t.Context(), alice, CreateGrantInput{KeyID: md.KeyID, Grantee: bob.Who.ARN, Operations: []string{"Encrypt", "ReEncryptTo"}}); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("an operation that the policy's condition does not name: %v", err)
	}
}

// TestGrantNames: the same name and parameters make one grant, with a token each time; anything else another one.
func TestGrantNames(t *testing.T) {
	f := newFixture(t)
	md, other := f.newKey(t, ""), f.newKey(t, "")
	in := CreateGrantInput{KeyID: md.KeyID, Name: "n", Grantee: alice.Who.ARN, Operations: []string{"Encrypt", "Decrypt"}, Constraints: GrantConstraints{Subset: Context{"a": "b"}}}
	first := f.grant(t, me, in)
	in.Operations = []string{"Decrypt", "Encrypt", "Encrypt"}
	in.KeyID = md.ARN
	if again := f.grant(t, me, in); again.ID != first.ID || again.Token == first.Token {
		t.Errorf("%v and %v", first, again)
	}
	seen := []string{first.ID}
	for name, change := range map[string]func(*CreateGrantInput){
		"key": func(in *CreateGrantInput) { in.KeyID = other.KeyID }, "operations": func(in *CreateGrantInput) { in.Operations = in.Operations[:1] },
		"grantee": func(in *CreateGrantInput) { in.Grantee = bob.Who.ARN }, "retiring": func(in *CreateGrantInput) { in.Retiring = bob.Who.ARN },
		"constraints": func(in *CreateGrantInput) { in.Constraints = GrantConstraints{Equals: Context{"a": "b"}} },
		"expiry":      func(in *CreateGrantInput) { in.Expires = f.now().Add(time.Hour) }, "name": func(in *CreateGrantInput) { in.Name = "m" },
		"no name": func(in *CreateGrantInput) { in.Name = "" },
	} {
		changed := in
		change(&changed)
		g := f.grant(t, me, changed)
		if slices.Contains(seen, g.ID) {
			t.Errorf("another %s gives the same grant", name)
		}
		seen = append(seen, g.ID)
	}
	in.Name = ""
	if a, b := f.grant(t, me, in), f.grant(t, me, in); a.ID == b.ID {
		t.Error("without a name, one grant")
	}
}

// TestGrantTokens: what is not a token of this key store is refused everywhere; one is good for its grantee only, for as long as the grant is there.
func TestGrantTokens(t *testing.T) {
	f, foreign := newFixture(t), newFixture(t)
	md, theirs := f.newKey(t, ""), foreign.newKey(t, "")
	g := f.grant(t, me, CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}})
	stranger := foreign.grant(t, me, CreateGrantInput{KeyID: theirs.KeyID, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}})
	raw, err := base64.StdEncoding.DecodeString(g.Token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		bad := slices.Clone(raw)
		bad[i] ^= 1
		if err := f.mayEncrypt(alice, md.KeyID, nil, base64.StdEncoding.EncodeToString(bad)); !errors.Is(err, ErrInvalidGrantToken) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for name, c := range map[string]struct {
		tokens []string
		class  error
	}{
		"garbage": {[]string{"garbage"}, ErrInvalidGrantToken}, "foreign": {[]string{stranger.Token}, ErrInvalidGrantToken}, "cut": {[]string{g.Token[:100]}, ErrInvalidGrantToken},
		"one of two": {[]string{g.Token, "x"}, ErrInvalidGrantToken}, "eleven": {slices.Repeat([]string{g.Token}, 11), ErrValidation}, "empty": {[]string{""}, ErrValidation},
		"long": {[]string{strings.Repeat("A", MaxTokenLen+1)}, ErrValidation}, "ten": {slices.Repeat([]string{g.Token}, 10), nil},
	} {
		if err := f.mayEncrypt(alice, md.KeyID, nil, c.tokens...); !errors.Is(err, c.class) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.DescribeKey(t.Context(), me, md.KeyID, "garbage"); !errors.Is(err, ErrInvalidGrantToken) {
		t.Errorf("DescribeKey: %v", err)
	}
	if err := f.RetireGrant(t.Context(), me, RetireGrantInput{Token: stranger.Token}); !errors.Is(err, ErrInvalidGrantToken) {
		t.Errorf("RetireGrant: %v", err)
	}
}

// TestGrantDelay: with a delay, a new grant needs its token; the token does so for five minutes, and never after the revocation.
func TestGrantDelay(t *testing.T) {
	f := newFixture(t)
	f.cfg.GrantDelay = 10 * time.Minute
	f.reopen(t)
	md := f.newKey(t, "")
	in := CreateGrantInput{KeyID: md.KeyID, Name: "n", Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}}
	g := f.grant(t, me, in)
	for _, c := range []struct {
		after          time.Duration
		without, token bool
	}{{0, false, true}, {5 * time.Minute, false, true}, {time.Second, false, false}, {5 * time.Minute, true, true}} {
		f.clock.advance(c.after, c.after)
		if err := f.mayEncrypt(alice, md.KeyID, nil); (err == nil) != c.without {
			t.Errorf("without the token, at %v: %v", f.now(), err)
		}
		if err := f.mayEncrypt(alice, md.KeyID, nil, g.Token); (err == nil) != c.token {
			t.Errorf("with the token, at %v: %v", f.now(), err)
		}
	}
	in.Name = "m"
	fresh := f.grant(t, me, in)
	if err := errors.Join(f.RevokeGrant(t.Context(), me, md.KeyID, g.ID, false), f.RevokeGrant(t.Context(), me, md.KeyID, fresh.ID, false)); err != nil {
		t.Fatal(err)
	}
	if err := f.mayEncrypt(alice, md.KeyID, nil, fresh.Token, g.Token); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("a fresh token of a revoked grant: %v", err)
	}
}

func TestGrantExpiry(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	in := CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}, Expires: f.now()}
	if _, err := f.CreateGrant(t.Context(), me, in); !errors.Is(err, ErrValidation) {
		t.Errorf("expired already: %v", err)
	}
	in.Expires = f.now().Add(time.Hour)
	g := f.grant(t, me, in)
	f.clock.advance(time.Hour-1, time.Hour-1)
	if err := f.mayEncrypt(alice, md.KeyID, nil); err != nil {
		t.Errorf("before: %v", err)
	}
	f.clock.advance(1, 1)
	if err := f.mayEncrypt(alice, md.KeyID, nil, g.Token); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestGrantLists(t *testing.T) {
	f := newFixture(t)
	md, other := f.newKey(t, ""), f.newKey(t, "")
	want := map[string]bool{}
	for i := range 7 {
		in := CreateGrantInput{KeyID: md.KeyID, Name: fmt.Sprint(i), Grantee: alice.Who.ARN, Retiring: bob.Who.ARN, Operations: []string{"Encrypt"}}
		if i%2 == 1 {
			in.Grantee, in.KeyID = bob.Who.ARN, other.KeyID
		}
		want[f.grant(t, me, in).ID] = true
	}
	for limit := 1; limit < 9; limit++ {
		got := map[string]bool{}
		for _, list := range []func(Page) (GrantList, error){
			func(p Page) (GrantList, error) { return f.ListGrants(t.Context(), me, md.KeyID, GrantFilter{}, p) },
			func(p Page) (GrantList, error) {
				return f.ListGrants(t.Context(), me, other.ARN, GrantFilter{Grantee: bob.Who.ARN}, p)
			},
			func(p Page) (GrantList, error) { return f.ListRetirableGrants(t.Context(), me, bob.Who.ARN, p) },
		} {
			for page := (Page{Limit: limit}); ; {
				l, err := list(page)
				if err != nil || len(l.Grants) > limit {
					t.Fatalf("%+v %v", l, err)
				}
				for _, g := range l.Grants {
					got[g.ID] = true
					if g.Retiring != bob.Who.ARN || g.Issuer != policy.RootARN(AccountID) || g.Created != f.now() || !slices.Equal(g.Operations, []string{"Encrypt"}) {
						t.Errorf("%+v", g)
					}
				}
				if page.Marker = l.NextMarker; page.Marker == "" {
					break
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("limit %d: %d grants", limit, len(got))
		}
	}
	l, err := f.ListGrants(t.Context(), me, md.KeyID, GrantFilter{}, Page{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ListGrants(t.Context(), me, other.KeyID, GrantFilter{}, Page{Marker: l.NextMarker}); !errors.Is(err, ErrInvalidMarker) {
		t.Errorf("another key's marker: %v", err)
	}
	if _, err := f.ListGrants(t.Context(), me, md.KeyID, GrantFilter{ID: "x"}, Page{}); !errors.Is(err, ErrInvalidGrantID) {
		t.Errorf("grant id: %v", err)
	}
	if _, err := f.ListRetirableGrants(t.Context(), alice, alice.Who.ARN, Page{}); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("by a stranger: %v", err)
	}
	// deleted with their key, and only they
	for range 2*grantsAtOnce + 3 {
		f.grant(t, me, CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}})
	}
	f.setStateTo(t, md.KeyID, StatePendingDeletion)
	f.pass(t, 7*day)
	if l, err := f.ListRetirableGrants(t.Context(), me, bob.Who.ARN, Page{}); err != nil || len(l.Grants) != 3 {
		t.Errorf("after the deletion of one key: %d grants, %v", len(l.Grants), err)
	}
}

func TestGrantRefusals(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/x")
	many := Context{}
	for i := range MaxConstraintPairs + 1 {
		many[fmt.Sprint(i)] = "v"
	}
	for name, c := range map[string]struct {
		change func(*CreateGrantInput)
		class  error
	}{
		"no grantee":        {func(in *CreateGrantInput) { in.Grantee = "" }, ErrValidation},
		"no ARN":            {func(in *CreateGrantInput) { in.Grantee = "alice" }, ErrInvalidArn},
		"everybody":         {func(in *CreateGrantInput) { in.Grantee = "*" }, ErrInvalidArn},
		"group":             {func(in *CreateGrantInput) { in.Grantee = policy.GroupARN(AccountID, "g") }, ErrInvalidArn},
		"service":           {func(in *CreateGrantInput) { in.Grantee = ViaFileDaemon }, ErrInvalidArn},
		"other account":     {func(in *CreateGrantInput) { in.Grantee = "arn:aws:iam::111122223333:root" }, ErrInvalidArn},
		"retiring":          {func(in *CreateGrantInput) { in.Retiring = "x" }, ErrInvalidArn},
		"no operations":     {func(in *CreateGrantInput) { in.Operations = nil }, ErrValidation},
		"unknown operation": {func(in *CreateGrantInput) { in.Operations = []string{"PutKeyPolicy"} }, ErrValidation},
		"Sign":              {func(in *CreateGrantInput) { in.Operations = []string{"Sign"} }, ErrValidation},
		"name":              {func(in *CreateGrantInput) { in.Name = "a b" }, ErrValidation},
		"long name":         {func(in *CreateGrantInput) { in.Name = strings.Repeat("n", MaxGrantName+1) }, ErrValidation},
		"pairs":             {func(in *CreateGrantInput) { in.Constraints.Equals = many }, ErrValidation},
		"value": {func(in *CreateGrantInput) {
			in.Constraints.Subset = Context{"a": strings.Repeat("v", MaxConstraintValue+1)}
		}, ErrValidation},
		"two spellings": {func(in *CreateGrantInput) { in.Constraints.Subset = Context{"a": "b", "A": "b"} }, ErrValidation},
		"alias":         {func(in *CreateGrantInput) { in.KeyID = "alias/x" }, ErrNotFound},
		"token":         {func(in *CreateGrantInput) { in.Tokens = []string{"x"} }, ErrInvalidGrantToken},
		"dry run":       {func(in *CreateGrantInput) { in.DryRun = true }, ErrDryRun},
	} {
		in := CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}}
		c.change(&in)
		if _, err := f.CreateGrant(t.Context(), me, in); !errors.Is(err, c.class) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.noGrantRows(t)
	f.grantLimit = 2
	for i := range 3 {
		_, err := f.CreateGrant(t.Context(), me, CreateGrantInput{KeyID: md.KeyID, Grantee: alice.Who.ARN, Operations: []string{"Encrypt"}})
		if (i < 2) != (err == nil) || err != nil && !errors.Is(err, ErrLimit) {
			t.Errorf("grant %d of 2: %v", i+1, err)
		}
	}
}

// TestDryRun: everything is checked and nothing done.
func TestDryRun(t *testing.T) {
	s := newSubject(t)
	f, ctx := s.f, t.Context()
	before := f.token.encrypt
	for name, run := range map[string]func(by Caller, keyID string) error{
		"Encrypt": func(by Caller, keyID string) error {
			return second(f.Encrypt(ctx, by, EncryptInput{KeyID: keyID, Plaintext: []byte("p"), DryRun: true}))
		},
		"GenerateDataKey": func(by Caller, keyID string) error {
			return second(f.GenerateDataKey(ctx, by, GenerateDataKeyInput{KeyID: keyID, Bytes: 8, DryRun: true}))
		},
		"Decrypt": func(by Caller, keyID string) error {
			return second(f.Decrypt(ctx, by, DecryptInput{KeyID: keyID, Blob: s.blob, DryRun: true}))
		},
		"ReEncrypt": func(by Caller, keyID string) error {
			return second(f.ReEncrypt(ctx, by, ReEncryptInput{Blob: s.blob, SourceKeyID: keyID, DestinationKeyID: s.other.KeyID, DryRun: true}))
		},
	} {
		if err := run(me, s.md.KeyID); !errors.Is(err, ErrDryRun) || Message(err) != "The request would have succeeded, but the DryRun option is set." {
			t.Errorf("%s: %v", name, err)
		}
		if u := f.tape.last(1)[0]; u.Decision != Allow || u.Error != "DryRunOperationException" {
			t.Errorf("%s recorded %+v", name, u)
		}
		if err := run(alice, s.md.KeyID); !errors.Is(err, ErrAccessDenied) {
			t.Errorf("%s by a stranger: %v", name, err)
		}
	}
	if _, err := f.Decrypt(ctx, me, DecryptInput{Blob: s.blob, Context: Context{"a": "b"}, DryRun: true}); !errors.Is(err, ErrInvalidCiphertext) {
		t.Errorf("wrong context: %v", err)
	}
	if f.token.encrypt != before {
		t.Error("something was encrypted")
	}
}
