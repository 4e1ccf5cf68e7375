package keymgr

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// signed is the identity name as the server makes it a caller.
func (f *fixture) signed(t *testing.T, accessKey string) (Caller, error) {
	t.Helper()
	_, who, err := f.Credentials(t.Context(), accessKey)
	return Caller{UID: -1, GID: -1, RequestID: "r", Principal: who.ARN, Who: who}, err
}

// TestIdentities: from the making of an identity to its end, and what it may do meanwhile.
func TestIdentities(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	admin, err := f.CreateIdentity(ctx, me, "ops", true)
	if err != nil {
		t.Fatal(err)
	}
	user, err := f.CreateIdentity(ctx, me, "user.1@x", false)
	if err != nil || user.ARN != "arn:aws:iam::000000000000:user/user.1@x" || len(user.AccessKeyID) != 20 || !strings.HasPrefix(user.AccessKeyID, "AKIA") || len(user.Secret) != 40 {
		t.Fatalf("%+v %v", user, err)
	}
	for _, u := range f.tape.last(2) {
		if strings.Contains(u.Detail, user.Secret) || u.Operation != "CreateIdentity" || u.Decision != Allow {
			t.Errorf("recorded %+v", u)
		}
	}
	f.reopen(t)
	secret, who, err := f.Credentials(ctx, user.AccessKeyID)
	if err != nil || secret != user.Secret || who.ARN != user.ARN || who.Account != AccountID || who.Root {
		t.Errorf("%+v %v", who, err)
	}
	byAdmin, _ := f.signed(t, admin.AccessKeyID)
	byUser, _ := f.signed(t, user.AccessKeyID)
	md, err := f.CreateKey(ctx, byAdmin, CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateKey(ctx, byUser, CreateKeyInput{}); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("a user without rights made a key: %v", err)
	}
	if _, err := f.CreateIdentity(ctx, byAdmin, "third", false); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("identities are the owner's: %v", err)
	}
	if err := f.mayEncrypt(byUser, md.KeyID, nil); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("without a right: %v", err)
	}
	f.grant(t, byAdmin, CreateGrantInput{KeyID: md.KeyID, Grantee: user.ARN, Operations: []string{"Encrypt"}})
	if err := f.mayEncrypt(byUser, md.KeyID, nil); err != nil {
		t.Errorf("with a grant: %v", err)
	}
	allow := strings.ReplaceAll(allowUser("x", "kms:Decrypt", ""), policy.UserARN(AccountID, "x"), user.ARN)
	f.setPolicy(t, md.KeyID, policyOf(allow))
	nobody := strings.ReplaceAll(allow, user.ARN, "arn:aws:iam::000000000000:user/nobody")
	if err := f.PutKeyPolicy(ctx, me, md.KeyID, "", policyOf(nobody), false); !errors.Is(err, ErrMalformedPolicy) {
		t.Errorf("a policy for nobody: %v", err)
	}
	list, err := f.ListIdentities(ctx, me)
	if err != nil || len(list) != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := f.ListIdentities(ctx, byAdmin); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("listed by an administrator: %v", err)
	}
	if err := f.DisableIdentity(ctx, me, "ops", false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.signed(t, admin.AccessKeyID); !errors.Is(err, ErrUnrecognizedClient) {
		t.Errorf("disabled: %v", err)
	}
	if _, err := f.CreateKey(ctx, byAdmin, CreateKeyInput{}); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("a request under way when it was disabled: %v", err)
	}
	if err := f.DisableIdentity(ctx, me, "ops", true); err != nil {
		t.Fatal(err)
	}
	again, err := f.RotateIdentityKey(ctx, me, "ops")
	if err != nil || again.AccessKeyID == admin.AccessKeyID || again.Secret == admin.Secret {
		t.Fatal(again.ARN, err)
	}
	if _, err := f.signed(t, admin.AccessKeyID); !errors.Is(err, ErrUnrecognizedClient) {
		t.Errorf("the old access key: %v", err)
	}
	if _, err := f.signed(t, again.AccessKeyID); err != nil {
		t.Errorf("the new access key: %v", err)
	}
	if err := f.DeleteIdentity(ctx, me, "ops"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ err, class error }{
		"deleted, used":    {second(f.signed(t, again.AccessKeyID)), ErrUnrecognizedClient},
		"deleted, again":   {f.DeleteIdentity(ctx, me, "ops"), ErrNotFound},
		"deleted, rotated": {second(f.RotateIdentityKey(ctx, me, "ops")), ErrNotFound},
		"deleted, remade":  {second(f.CreateIdentity(ctx, me, "ops", true)), ErrAlreadyExists},
		"twice":            {second(f.CreateIdentity(ctx, me, "user.1@x", true)), ErrAlreadyExists},
		"no name":          {second(f.CreateIdentity(ctx, me, "", true)), ErrValidation},
		"path":             {second(f.CreateIdentity(ctx, me, "a/b", true)), ErrValidation},
		"long":             {second(f.CreateIdentity(ctx, me, strings.Repeat("n", MaxIdentityName+1), true)), ErrValidation},
		"unknown":          {f.DisableIdentity(ctx, me, "none", false), ErrNotFound},
		"unknown key":      {second(f.signed(t, "AKIAEXAMPLE")), ErrUnrecognizedClient},
	} {
		if !errors.Is(c.err, c.class) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}
