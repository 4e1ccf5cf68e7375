package keymgr

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

func asIdentity(name string) Caller {
	return Caller{Principal: userARN(name), Who: policy.Principal{ARN: userARN(name), Account: AccountID}}
}

// TestRoles: what each role may do with a key of the default policy, and what it may not even if a grant or the key's policy says so.
func TestRoles(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	md := f.newKey(t, "alias/x")
	volume, zone := Context{ContextVolume: strings.Repeat("1", 32)}, Context{ContextVolume: strings.Repeat("1", 32), "kmsfs:zone": "1"}
	blobOf := func(c Context) []byte {
		out, err := f.Encrypt(ctx, me, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p"), Context: c})
		if err != nil {
			t.Fatal(err)
		}
		return out.Blob
	}
	volumeBlob, zoneBlob, plainBlob := blobOf(volume), blobOf(zone), blobOf(nil)
	decrypt := func(blob []byte, c Context) func(Caller) error {
		return func(by Caller) error { return second(f.Decrypt(ctx, by, DecryptInput{Blob: blob, Context: c})) }
	}
	steps := map[string]func(Caller) error{
		"describe":   func(by Caller) error { return second(f.DescribeKey(ctx, by, md.KeyID)) },
		"get policy": func(by Caller) error { return second(f.GetKeyPolicy(ctx, by, md.KeyID, "")) },
		"create":     func(by Caller) error { return second(f.CreateKey(ctx, by, CreateKeyInput{})) },
		"disable": func(by Caller) error {
			return errors.Join(f.DisableKey(ctx, by, md.KeyID), f.EnableKey(ctx, me, md.KeyID))
		},
		"put policy": func(by Caller) error {
			return f.PutKeyPolicy(ctx, by, md.KeyID, "", string(policy.DefaultPolicy(AccountID)), true)
		},
		"encrypt": func(by Caller) error {
			return second(f.Encrypt(ctx, by, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")}))
		},
		"data key": func(by Caller) error {
			return second(f.GenerateDataKey(ctx, by, GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32}))
		},
		"sealed key": func(by Caller) error {
			return second(f.GenerateDataKeyWithoutPlaintext(ctx, by, GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32}))
		},
		"rewrap": func(by Caller) error {
			return second(f.ReEncrypt(ctx, by, ReEncryptInput{Blob: zoneBlob, SourceContext: zone, DestinationKeyID: md.KeyID, DestinationContext: zone}))
		},
		"decrypt":        decrypt(plainBlob, nil),
		"open a volume":  decrypt(volumeBlob, volume),
		"open a zone":    decrypt(zoneBlob, zone),
		"make somebody":  func(by Caller) error { return second(f.CreateIdentity(ctx, by, "friend", true)) },
		"give himself":   func(by Caller) error { return f.PutIdentityPolicy(ctx, by, "x", "all", ownerPolicy) },
		"restore anchor": func(by Caller) error { return f.RestoreAnchor(ctx, by, [16]byte{1}, Anchor{}, "because") },
	}
	may := map[string]string{
		RoleKeyAdmin: "describe, get policy, create, disable, put policy",
		RoleOperator: "describe, sealed key, rewrap, open a volume",
		RoleUser:     "describe, encrypt, data key, sealed key, rewrap, decrypt, open a volume, open a zone",
		RoleAuditor:  "describe, get policy",
		"":           "",
	}
	check := func(role, what string, by Caller) {
		t.Helper()
		for name, do := range steps {
			err := do(by)
			want := strings.Contains(", "+may[role]+",", ", "+name+",")
			if want && err != nil || !want && !errors.Is(err, ErrAccessDenied) {
				t.Errorf("%s %q: %s: %v", what, role, name, err)
			}
		}
	}
	for role := range may {
		name := "n-" + role
		if _, err := f.CreateIdentityAs(ctx, me, name, role); err != nil {
			t.Fatal(err)
		}
		check(role, "identity", asIdentity(name))
		user := Caller{UID: 1000 + len(role), Who: policy.Principal{ARN: policy.UserARN(AccountID, "u"+role), Account: AccountID, Unix: &policy.Unix{UID: uint32(1000 + len(role)), User: "u" + role}}}
		check("", "user not mapped to", user)
		if err := f.MapIdentity(ctx, me, name, user.Who.Unix.UID, false); err != nil {
			t.Fatal(err)
		}
		check(role, "user mapped to", user)
		if err := f.MapIdentity(ctx, me, name, user.Who.Unix.UID, true); err != nil {
			t.Fatal(err)
		}
		check("", "user no longer mapped to", user)
	}
	// A key administrator reads nothing by a grant that names it, nor by a key policy: only by making somebody else, or another policy, which is an event.
	admin := asIdentity("n-" + RoleKeyAdmin)
	if _, err := f.CreateGrant(ctx, admin, CreateGrantInput{KeyID: md.KeyID, Grantee: userARN("n-" + RoleKeyAdmin), Operations: []string{"Decrypt"}}); err != nil {
		t.Fatal(err)
	}
	if u := f.tape.last(1)[0]; u.Operation != "CreateGrant" || u.Principal != admin.Principal || u.Decision != Allow {
		t.Errorf("recorded %+v", u)
	}
	open := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`
	if err := f.PutKeyPolicy(ctx, admin, md.KeyID, "", open, false); err != nil {
		t.Fatal(err)
	}
	if err := decrypt(plainBlob, nil)(admin); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("a key administrator with a grant and an open policy: %v", err)
	}
	if _, err := f.CreateIdentityAs(ctx, me, "x", "king"); !errors.Is(err, ErrValidation) {
		t.Errorf("no such role: %v", err)
	}
}

// TestIdentityPolicies: they allow what key policies leave to the account, deny whatever else is said, and go with the identity.
func TestIdentityPolicies(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	md := f.newKey(t, "alias/x")
	if _, err := f.CreateIdentity(ctx, me, "n", false); err != nil {
		t.Fatal(err)
	}
	describe := func() error { return second(f.DescribeKey(ctx, asIdentity("n"), md.KeyID)) }
	allow := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}}`
	deny := strings.Replace(allow, "Allow", "Deny", 1)
	step := func(what string, err, want error, allowed bool) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if err := describe(); (err == nil) != allowed {
			t.Errorf("%s: then %v", what, err)
		}
	}
	put := func(name, document string) error { return f.PutIdentityPolicy(ctx, me, "n", name, document) }
	step("none", nil, nil, false)
	step("allow", put("a", allow), nil, true)
	step("with a principal", put("b", strings.Replace(allow, `"Action"`, `"Principal":"*","Action"`, 1)), ErrMalformedPolicy, true)
	step("too long", put("b", allow+strings.Repeat(" ", MaxIdentityPolicy)), ErrLimit, true)
	step("bad name", put("a/b", allow), ErrValidation, true)
	step("deny", put("b", deny), nil, false)
	if got, err := f.GetIdentityPolicy(ctx, me, "n", "b"); err != nil || got != deny {
		t.Errorf("get: %q %v", got, err)
	}
	f.reopen(t)
	step("after a restart", nil, nil, false)
	step("delete", f.DeleteIdentityPolicy(ctx, me, "n", "b"), nil, true)
	step("delete again", f.DeleteIdentityPolicy(ctx, me, "n", "b"), ErrNotFound, true)
	step("of nobody", f.PutIdentityPolicy(ctx, me, "nobody", "a", allow), ErrNotFound, true)
	step("by itself", f.PutIdentityPolicy(ctx, asIdentity("n"), "n", "b", ownerPolicy), ErrAccessDenied, true)
	for i := range MaxIdentityPolicies {
		err := put("p"+string(rune('a'+i)), allow)
		if want := i < MaxIdentityPolicies-1; (err == nil) != want {
			t.Errorf("policy %d: %v", i+2, err)
		}
	}
	list, err := f.ListIdentities(ctx, me)
	if err != nil || len(list) != 1 || len(list[0].Policies) != MaxIdentityPolicies {
		t.Errorf("list %+v %v", list, err)
	}
	step("disabled", f.DisableIdentity(ctx, me, "n", false), nil, false)
	step("deleted", f.DeleteIdentity(ctx, me, "n"), nil, false)
}
