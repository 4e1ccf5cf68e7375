package keymgr

import (
	"errors"
	"strings"
	"testing"
)

// admAndFriend makes a key administrator and an identity without a role.
func (f *fixture) admAndFriend(t *testing.T) (adm, friend Caller) {
	t.Helper()
	for name, role := range map[string]string{"adm": RoleKeyAdmin, "friend": ""} {
		if _, err := f.CreateIdentityAs(t.Context(), me, name, role); err != nil {
			t.Fatal(err)
		}
	}
	return asIdentity("adm"), asIdentity("friend")
}

// TestKeyAdminReadsNothingUnseen: a key administrator gets no plaintext, whatever the policies and grants say that it makes for itself; what it can do is give the key to somebody else, and each way of that is an alert.
func TestKeyAdminReadsNothingUnseen(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	adm, friend := f.admAndFriend(t)
	secret, key := f.newKey(t, "alias/secret"), f.newKey(t, "alias/other")
	blob := f.seal(t, secret.KeyID, "p", nil)
	reads := func(by Caller) error {
		var got []error
		for _, err := range []error{
			second(f.Decrypt(ctx, by, DecryptInput{Blob: blob})),
			second(f.ReEncrypt(ctx, by, ReEncryptInput{Blob: blob, DestinationKeyID: key.KeyID})),
			second(f.GenerateDataKey(ctx, by, GenerateDataKeyInput{KeyID: secret.KeyID, Bytes: 32})),
		} {
			if !errors.Is(err, ErrAccessDenied) {
				got = append(got, errors.New("allowed"), err)
			}
		}
		return errors.Join(got...)
	}
	allow := func(who string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"` + userARN(who) + `"},"Action":"kms:*","Resource":"*"}]}`
	}
	for what, give := range map[string]func(who string) error{
		"PutKeyPolicy": func(who string) error { return f.PutKeyPolicy(ctx, adm, secret.KeyID, "", allow(who), false) },
		"CreateGrant": func(who string) error {
			return second(f.CreateGrant(ctx, adm, CreateGrantInput{KeyID: secret.KeyID, Grantee: userARN(who), Operations: []string{"Decrypt", "GenerateDataKey", "ReEncryptFrom"}}))
		},
	} {
		if err := reads(adm); err != nil {
			t.Errorf("%s: before anything: %v", what, err)
		}
		if err := give("adm"); err != nil {
			t.Fatal(err)
		}
		if err := reads(adm); err != nil {
			t.Errorf("%s: it gave itself the key, and reads: %v", what, err)
		}
		if err := give("friend"); err != nil {
			t.Fatal(err)
		}
		if u := f.tape.last(1)[0]; u.Operation != what || !u.Alert || u.Decision != Allow || u.Principal != userARN("adm") || u.Key != secret.ARN {
			t.Errorf("%s to somebody else is recorded as %+v", what, u)
		}
		if _, err := f.Decrypt(ctx, friend, DecryptInput{Blob: blob}); err != nil { // else the test shows nothing
			t.Errorf("%s: the friend cannot read: %v", what, err)
		}
		if err := f.PutKeyPolicy(ctx, me, secret.KeyID, "", allow("adm"), false); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"an identity": second(f.CreateIdentity(ctx, adm, "mine", true)), "another's access key": second(f.RotateIdentityKey(ctx, adm, "friend")),
		"another's policy": f.PutIdentityPolicy(ctx, adm, "friend", "all", strings.ReplaceAll(ownerPolicy, "Administrator", "x")), "another's name": f.MapIdentity(ctx, adm, "friend", 4711, false),
		"a front end": f.PutVolume(ctx, adm, VolumeRecord{ID: [16]byte{1}, CMK: secret.ARN}), "a backup": f.Backup(ctx, adm, nil, nil),
	} {
		if !errors.Is(err, ErrAccessDenied) {
			t.Errorf("it makes %s: %v", what, err)
		}
	}
}

// TestAliasTakesNothingUnseen: a key administrator makes a key that an accomplice may use, or whose material it knows, which is nobody's harm; putting it in the place of another key, by its alias, is an alert,
// in each way that there is, and waits for a second person where one is needed.
func TestAliasTakesNothingUnseen(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	adm, friend := f.admAndFriend(t)
	f.newKey(t, "alias/vault")
	bad, err := f.CreateKey(ctx, adm, CreateKeyInput{Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + userARN("friend") + `"},"Action":"kms:Decrypt","Resource":"*"}]}`})
	if err != nil {
		t.Fatal(err)
	}
	alert := func(operation string) {
		t.Helper()
		if u := f.tape.last(1)[0]; u.Operation != operation || !u.Alert || u.Decision != Allow || u.Principal != userARN("adm") {
			t.Errorf("%s is recorded as %+v", operation, u)
		}
	}
	if err := f.UpdateAlias(ctx, adm, "alias/vault", bad.KeyID); err != nil {
		t.Fatal(err)
	}
	alert("UpdateAlias")
	if _, err := f.Decrypt(ctx, friend, DecryptInput{Blob: f.seal(t, "alias/vault", "p", nil)}); err != nil { // else the test shows nothing
		t.Errorf("the friend cannot read what is encrypted by the alias now: %v", err)
	}
	if err := f.DeleteAlias(ctx, adm, "alias/vault"); err != nil {
		t.Fatal(err)
	}
	alert("DeleteAlias")
	external := f.external(t)
	if _, err := f.importer(t, external.KeyID)(testMaterial[:], nil); err != nil {
		t.Fatal(err)
	}
	if u := f.tape.last(1)[0]; u.Operation != "ImportKeyMaterial" || !u.Alert {
		t.Errorf("material that somebody knows is recorded as %+v", u)
	}

	g := approvalFixture(t)
	g.newKey(t, "alias/vault")
	other := g.newKey(t, "alias/other")
	for operation, err := range map[string]error{
		"UpdateAlias": g.UpdateAlias(ctx, identityCaller("carl"), "alias/vault", other.KeyID),
		"DeleteAlias": g.DeleteAlias(ctx, identityCaller("carl"), "alias/vault"),
	} {
		if !errors.Is(err, ErrApprovalRequired) {
			t.Errorf("%s by an administrator alone: %v", operation, err)
		}
	}
}
