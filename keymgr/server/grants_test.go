package server

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// TestGrantsOverTheSocket: a grant to a user for whom a front end asks, from its making to its end.
func TestGrantsOverTheSocket(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	volume := blockcrypt.VolumeID{7}
	c, front := dial(t, dir, client.Options{}), front(t, dir, volume)
	ctx := t.Context()
	only := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + (&users{}).principal(0, 0).ARN + `"},"Action":"kms:*","Resource":"*"}}`
	md, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{Policy: only, Bypass: true})
	if err != nil {
		t.Fatal(err)
	}
	who := (&users{}).principal(1, 1)
	if who.Unix.UnresolvedUser || md.KeyID == "" {
		t.Skip("uid 1 has no name here")
	}
	pairs := keymgr.Context{keymgr.ContextVolume: volume.String()}
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	in := keymgr.CreateGrantInput{KeyID: md.KeyID, Name: "n", Grantee: who.ARN, Retiring: who.ARN, Operations: []string{"Decrypt", "Encrypt"},
		Constraints: keymgr.GrantConstraints{Subset: pairs}, Expires: expires}
	g, err := c.CreateGrant(ctx, self, in)
	if errors.Is(err, keymgr.ErrAccessDenied) {
		t.Skip("this test wants to be root")
	}
	if err != nil || len(g.ID) != 64 || g.Token == "" {
		t.Fatalf("%+v %v", g, err)
	}
	daemon := keymgr.Caller{UID: 1, GID: 1, Via: keymgr.ViaFileDaemon}
	encrypt := func(tokens ...string) error {
		_, err := front.Encrypt(ctx, daemon, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p"), Context: pairs, Tokens: tokens})
		return err
	}
	if err := errors.Join(encrypt(), encrypt(g.Token)); err != nil {
		t.Error(err)
	}
	if err := encrypt("x"); !errors.Is(err, keymgr.ErrInvalidGrantToken) {
		t.Errorf("bad token: %v", err)
	}
	list, err := c.ListGrants(ctx, self, md.KeyID, keymgr.GrantFilter{}, keymgr.Page{})
	if err != nil || len(list.Grants) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	got := list.Grants[0]
	want := keymgr.Grant{KeyID: md.ARN, ID: g.ID, Name: "n", Grantee: who.ARN, Retiring: who.ARN, Issuer: "arn:aws:iam::000000000000:root", Operations: in.Operations,
		Constraints: in.Constraints, Created: got.Created, Expires: expires}
	if !reflect.DeepEqual(got, want) || time.Since(got.Created) > time.Minute {
		t.Errorf("%+v, want %+v", got, want)
	}
	if l, err := c.ListRetirableGrants(ctx, self, who.ARN, keymgr.Page{}); err != nil || len(l.Grants) != 1 {
		t.Errorf("%+v %v", l, err)
	}
	if err := c.RetireGrant(ctx, self, keymgr.RetireGrantInput{Token: g.Token, DryRun: true}); !errors.Is(err, keymgr.ErrDryRun) {
		t.Errorf("dry run: %v", err)
	}
	if err := c.RevokeGrant(ctx, self, md.KeyID, g.ID, false); err != nil {
		t.Error(err)
	}
	if err := encrypt(g.Token); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("after the revocation: %v", err)
	}
}
