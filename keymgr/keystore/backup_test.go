package keystore

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// TestBackupRestore: everything is there again, no changed or cut byte is taken, and the backing keys' uses are not counted anew.
func TestBackupRestore(t *testing.T) {
	s := &shelf{}
	dir, cfg := newKeyStore(t, s)
	store := openStore(t, dir, nil, s)
	ctx := t.Context()
	_, err := store.Manager.CreateKey(ctx, me, keymgr.CreateKeyInput{Alias: "alias/x"})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 { // rows for more than one transaction
		if _, err := store.Manager.CreateKey(ctx, me, keymgr.CreateKeyInput{Tags: []keymgr.Tag{{Key: "k", Value: "v"}}}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := store.Manager.GenerateDataKey(ctx, me, keymgr.GenerateDataKeyInput{KeyID: "alias/x", Bytes: 32})
	if err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := store.Backup(ctx, me, &backup); err != nil {
		t.Fatal(err)
	}
	other := me
	other.Who = policy.Principal{ARN: policy.UserARN(keymgr.AccountID, "alice"), Account: keymgr.AccountID}
	if err := store.Backup(ctx, other, new(bytes.Buffer)); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("by somebody else: %v", err)
	}
	restore := func(b []byte) (string, error) {
		to := filepath.Join(t.TempDir(), "ks")
		return to, Restore(ctx, RestoreConfig{Dir: to, Secret: buffer(t, keyText), Options: Options{OpenKV: s.open}}, bytes.NewReader(b))
	}
	to, err := restore(backup.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	again := openStore(t, to, nil, s)
	if again.Config.ID != cfg.ID {
		t.Errorf("id %x", again.Config.ID)
	}
	if out, err := again.Manager.Decrypt(ctx, me, keymgr.DecryptInput{Blob: data.Blob, KeyID: "alias/x"}); err != nil || !bytes.Equal(out.Plaintext, data.Plaintext) {
		t.Errorf("decrypt: %v", err)
	}
	if list, err := again.Manager.ListKeys(ctx, me, keymgr.Page{Limit: 1000}); err != nil || len(list.Keys) != 41 {
		t.Errorf("%d keys, %v", len(list.Keys), err)
	}
	checkModes(t, to)
	for i := 0; i < backup.Len(); i += backup.Len()/11 + 1 { // some of every part
		bad := bytes.Clone(backup.Bytes())
		bad[i] ^= 0x20
		if _, err := restore(bad); err == nil {
			t.Errorf("byte %d of %d changed: restored", i, len(bad))
		}
		if _, err := restore(backup.Bytes()[:i]); err == nil {
			t.Errorf("cut to %d bytes: restored", i)
		}
	}
	if err := Restore(ctx, RestoreConfig{Dir: filepath.Join(t.TempDir(), "ks"), Secret: buffer(t, "another secret of some length!!!!!"), Options: Options{OpenKV: s.open}}, &backup); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("another secret: %v", err)
	}
}
