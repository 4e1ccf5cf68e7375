package server

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// TestManagedKey: the service-managed key is made once, works for a proven front end and for its own volume only, and is administered by nobody.
func TestManagedKey(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	owner, volume := dial(t, dir, client.Options{}), blockcrypt.VolumeID{7}
	if _, err := owner.DescribeKey(t.Context(), self, keymgr.ManagedAlias); !errors.Is(err, keymgr.ErrNotFound) {
		t.Errorf("before it is asked for: %v", err)
	}
	made := make([]keymgr.KeyMetadata, 4)
	var wg sync.WaitGroup
	for i := range made {
		wg.Go(func() {
			md, err := owner.ManagedKey(t.Context(), self)
			if err != nil {
				t.Error(err)
			}
			made[i] = md
		})
	}
	wg.Wait()
	md := made[0]
	for _, other := range made {
		if other.ARN != md.ARN || other.Manager != keymgr.ManagedByService {
			t.Fatalf("made %+v and %+v", md, other)
		}
	}
	if st, err := owner.GetKeyRotationStatus(t.Context(), self, md.KeyID); err != nil || !st.Enabled || st.Days != 365 {
		t.Errorf("its rotation: %+v, %v", st, err)
	}
	if err := owner.PutVolume(t.Context(), self, keymgr.VolumeRecord{ID: volume, CMK: md.ARN}); err != nil {
		t.Fatal(err)
	}
	bound := keymgr.Context{keymgr.ContextVolume: volume.String()}
	front := dial(t, dir, client.Options{Volume: volume, FrontEndRight: true})
	sealed, err := front.Encrypt(t.Context(), self, keymgr.EncryptInput{KeyID: md.ARN, Plaintext: []byte("p"), Context: bound})
	if err != nil {
		t.Fatal(err)
	}
	alice := keymgr.Caller{UID: 4711, GID: 4711, PID: 1, Via: keymgr.ViaFileDaemon}
	if out, err := front.Decrypt(t.Context(), alice, keymgr.DecryptInput{Blob: sealed.Blob, Context: bound}); err != nil || string(out.Plaintext) != "p" {
		t.Errorf("for a user: %q, %v", out.Plaintext, err)
	}
	elsewhere := keymgr.Context{keymgr.ContextVolume: blockcrypt.VolumeID{8}.String()}
	mere := dial(t, dir, client.Options{Volume: volume}) // says which volume it is there for, and proves nothing
	for what, use := range map[string]func() error{
		"the owner decrypts": func() error {
			_, err := owner.Decrypt(t.Context(), self, keymgr.DecryptInput{Blob: sealed.Blob, Context: bound})
			return err
		},
		"the owner encrypts": func() error {
			_, err := owner.Encrypt(t.Context(), self, keymgr.EncryptInput{KeyID: md.ARN, Plaintext: []byte("p"), Context: bound})
			return err
		},
		"the owner says it comes through the file daemon": func() error {
			_, err := owner.Decrypt(t.Context(), alice, keymgr.DecryptInput{Blob: sealed.Blob, Context: bound})
			return err
		},
		"no proof": func() error {
			_, err := mere.Decrypt(t.Context(), alice, keymgr.DecryptInput{Blob: sealed.Blob, Context: bound})
			return err
		},
		"another volume's": func() error {
			_, err := front.Encrypt(t.Context(), alice, keymgr.EncryptInput{KeyID: md.ARN, Plaintext: []byte("p"), Context: elsewhere})
			return err
		},
	} {
		if err := use(); !errors.Is(err, keymgr.ErrAccessDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	administerManaged(t, owner, md)
}

// administerManaged has the owner try everything that changes a key.
func administerManaged(t *testing.T, owner *client.Client, md keymgr.KeyMetadata) {
	t.Helper()
	before, err := owner.GetKeyPolicy(t.Context(), self, md.KeyID, "default")
	if err != nil {
		t.Fatal(err)
	}
	own, err := owner.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: "alias/own"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for what, c := range map[string]struct {
		do   func() error
		want error
	}{
		"PutKeyPolicy":                         {func() error { return owner.PutKeyPolicy(ctx, self, md.KeyID, "default", before, false) }, keymgr.ErrAccessDenied},
		"PutKeyPolicy, lockout check bypassed": {func() error { return owner.PutKeyPolicy(ctx, self, md.KeyID, "default", before, true) }, keymgr.ErrAccessDenied},
		"DisableKey":                           {func() error { return owner.DisableKey(ctx, self, md.KeyID) }, keymgr.ErrAccessDenied},
		"RotateKeyOnDemand":                    {func() error { return owner.RotateKeyOnDemand(ctx, self, md.KeyID) }, keymgr.ErrAccessDenied},
		"UpdateKeyDescription":                 {func() error { return owner.UpdateKeyDescription(ctx, self, md.KeyID, "x") }, keymgr.ErrAccessDenied},
		"ScheduleKeyDeletion":                  {func() error { _, err := owner.ScheduleKeyDeletion(ctx, self, md.KeyID, 7); return err }, keymgr.ErrAccessDenied},
		"CreateGrant": {func() error {
			_, err := owner.CreateGrant(ctx, self, keymgr.CreateGrantInput{KeyID: md.KeyID, Grantee: "arn:aws:iam::000000000000:root", Operations: []string{"Decrypt"}})
			return err
		}, keymgr.ErrAccessDenied},
		"CreateAlias":                  {func() error { return owner.CreateAlias(ctx, self, "alias/mine", md.KeyID) }, keymgr.ErrAccessDenied},
		"DeleteAlias":                  {func() error { return owner.DeleteAlias(ctx, self, keymgr.ManagedAlias) }, keymgr.ErrNotAuthorized},
		"UpdateAlias":                  {func() error { return owner.UpdateAlias(ctx, self, keymgr.ManagedAlias, own.KeyID) }, keymgr.ErrNotAuthorized},
		"UpdateAlias to it":            {func() error { return owner.UpdateAlias(ctx, self, "alias/own", md.KeyID) }, keymgr.ErrAccessDenied},
		"CreateAlias with the prefix":  {func() error { return owner.CreateAlias(ctx, self, "alias/kmsfs/x", own.KeyID) }, keymgr.ErrNotAuthorized},
		"CreateAlias with AWS' prefix": {func() error { return owner.CreateAlias(ctx, self, "alias/aws/x", own.KeyID) }, keymgr.ErrNotAuthorized},
		"CreateKey with an alias of prefix": {func() error {
			_, err := owner.CreateKey(ctx, self, keymgr.CreateKeyInput{Alias: "alias/kmsfs/x"})
			return err
		}, keymgr.ErrNotAuthorized},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	if after, err := owner.GetKeyPolicy(ctx, self, md.KeyID, "default"); err != nil || after != before {
		t.Errorf("its policy is now %q, %v", after, err)
	}
}

// TestManagedKeyIsTheOwners: nobody else has it made.
func TestManagedKeyIsTheOwners(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	volume := blockcrypt.VolumeID{7}
	f := front(t, dir, volume)
	_, err := f.ManagedKey(context.WithoutCancel(t.Context()), keymgr.Caller{UID: os.Geteuid() + 1, GID: 1, PID: 1, Via: keymgr.ViaFileDaemon})
	if !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("through a front end: %v", err)
	}
}
