package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// TestAuthorizeAndWatch: what a front end is told about a user's rights follows each change, and it learns of each change at once.
func TestAuthorizeAndWatch(t *testing.T) {
	dir := newKeyStore(t, false)
	stop := serve(t, RunConfig{Dir: dir})
	volume := blockcrypt.VolumeID{7}
	c, front := dial(t, dir, client.Options{}), front(t, dir, volume)
	ctx := t.Context()
	only := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + (&users{}).principal(0, 0).ARN + `"},"Action":"kms:*","Resource":"*"}}`
	md, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{Policy: only, Bypass: true})
	if err != nil {
		t.Fatal(err)
	}
	who := (&users{}).principal(1, 1)
	if who.Unix.UnresolvedUser {
		t.Fatal("uid 1 has no name here: the test needs one that has")
	}
	pairs := keymgr.Context{keymgr.ContextVolume: volume.String()}
	user := keymgr.Caller{UID: 1, GID: 1, Via: keymgr.ViaFileDaemon}
	ask := func(action string) keymgr.Authorization {
		t.Helper()
		a, err := front.Authorize(ctx, user, keymgr.AuthorizeInput{Action: action, KeyID: md.KeyID, Context: pairs})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	seen, err := front.Watch(ctx, 0, []string{md.ARN, "alias/none"}, time.Second)
	if err != nil || seen.States[md.ARN] != keymgr.StateEnabled || seen.States["alias/none"] != "" || seen.Epoch == 0 {
		t.Fatalf("%+v %v", seen, err)
	}
	if a := ask("kms:Decrypt"); a.Allowed || !errors.Is(a.Err(), keymgr.ErrAccessDenied) || a.KeyID != md.ARN || a.Reason == "" {
		t.Errorf("without a grant: %+v", a)
	}
	after := make(chan keymgr.Changes, 1)
	wait := func(epoch uint64) {
		go func() {
			next, err := front.Watch(context.Background(), epoch, []string{md.ARN}, 8*time.Second)
			if err != nil && !errors.Is(err, keymgr.ErrKeyUnavailable) {
				t.Error(err)
			}
			after <- next
		}()
	}
	step := func(what string, do func() error) {
		t.Helper()
		wait(seen.Epoch)
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		next := <-after
		if next.Epoch == seen.Epoch {
			t.Errorf("%s: nothing was seen", what)
		}
		if seen, err = front.Watch(ctx, 0, []string{md.ARN}, 0); err != nil {
			t.Fatal(err)
		}
	}
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	var grant keymgr.NewGrant
	step("grant", func() (err error) {
		grant, err = c.CreateGrant(ctx, self, keymgr.CreateGrantInput{KeyID: md.KeyID, Grantee: who.ARN, Operations: []string{"Decrypt"}, Expires: expires})
		return err
	})
	if a := ask("kms:Decrypt"); !a.Allowed || a.Err() != nil || a.Reason != "grant "+grant.ID || !a.Expires.Equal(expires) {
		t.Errorf("with a grant: %+v", a)
	}
	if a := ask("kms:GenerateDataKey"); a.Allowed {
		t.Errorf("more than the grant: %+v", a)
	}
	step("disable", func() error { return c.DisableKey(ctx, self, md.ARN) })
	if a := ask("kms:Decrypt"); a.Allowed || !errors.Is(a.Err(), keymgr.ErrDisabled) || seen.States[md.ARN] != keymgr.StateDisabled {
		t.Errorf("disabled: %+v, %+v", a, seen)
	}
	step("revoke", func() error { return c.RevokeGrant(ctx, self, md.ARN, grant.ID, false) })
	if a := ask("kms:Decrypt"); a.Allowed || !errors.Is(a.Err(), keymgr.ErrAccessDenied) {
		t.Errorf("revoked: %+v", a)
	}
	if a := ask(keymgr.ActionAdmin); a.Allowed {
		t.Errorf("a user may administer: %+v", a)
	}
	a, err := c.Authorize(ctx, self, keymgr.AuthorizeInput{Action: keymgr.ActionAdmin, KeyID: md.KeyID})
	if err != nil || !a.Allowed {
		t.Errorf("the owner may not administer: %+v %v", a, err)
	}
	if _, err := front.Authorize(ctx, user, keymgr.AuthorizeInput{Action: "kms:Nothing", KeyID: md.KeyID, Context: pairs}); !errors.Is(err, keymgr.ErrValidation) {
		t.Errorf("unknown action: %v", err)
	}
	a, err = front.Authorize(ctx, user, keymgr.AuthorizeInput{Action: "kms:Decrypt", KeyID: md.KeyID, Context: keymgr.Context{keymgr.ContextVolume: "other"}})
	if err != nil || a.Allowed {
		t.Errorf("for another volume: %+v %v", a, err)
	}
	wait(seen.Epoch)
	stop()
	if next := <-after; next.Epoch != seen.Epoch && next.Epoch != 0 { // the end of the server is no change
		t.Errorf("%+v", next)
	}
}
