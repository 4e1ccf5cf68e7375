//go:build cgo

package pkcs11_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/soft"
)

// TestImportedFromSoft: under a key that came from an embedded token, the token opens what that one made, and nothing that was changed.
func TestImportedFromSoft(t *testing.T) {
	secret, err := locked.FromBytes(bytes.Repeat([]byte("k"), 64))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	from, err := soft.Create(t.TempDir()+"/token", soft.KeyBytes(secret))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, ctx, id, aad := open(t, config(t, hsmtest.NewSoftHSM(t))), hsmtest.Context(t), hsm.NewKeyID(), []byte("aad")
	if _, err := from.GenerateKey(ctx, id, "moved"); err != nil {
		t.Fatal(err)
	}
	err = from.ExportKey(ctx, id, func(key []byte) error {
		_, err := to.ImportKey(ctx, id, "moved", key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range [][]byte{{1}, bytes.Repeat([]byte("p"), 32), bytes.Repeat([]byte("q"), hsm.MaxPlaintext)} {
		s, err := from.Encrypt(ctx, id, plain, aad)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := to.Decrypt(ctx, id, s, aad); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %d bytes came back, %v", len(plain), len(got), err)
		}
		for what, change := range map[string]func(*hsm.Sealed){
			"nonce": func(s *hsm.Sealed) { s.IV[0] ^= 1 }, "nonce's end": func(s *hsm.Sealed) { s.IV[23] ^= 1 }, "ciphertext": func(s *hsm.Sealed) { s.Ciphertext[0] ^= 1 },
			"tag": func(s *hsm.Sealed) { s.Ciphertext[len(s.Ciphertext)-1] ^= 1 }, "a short nonce": func(s *hsm.Sealed) { s.IV = s.IV[:23] },
		} {
			bad := hsm.Sealed{Mechanism: s.Mechanism, IV: bytes.Clone(s.IV), Ciphertext: bytes.Clone(s.Ciphertext)}
			change(&bad)
			if _, err := to.Decrypt(ctx, id, bad, aad); !errors.Is(err, hsm.ErrAuth) {
				t.Errorf("changed %s: %v", what, err)
			}
		}
		if _, err := to.Decrypt(ctx, id, s, []byte("other")); !errors.Is(err, hsm.ErrAuth) {
			t.Errorf("other AAD: %v", err)
		}
	}
	again, err := to.Encrypt(ctx, id, []byte("p"), aad)
	if err != nil || again.Mechanism != hsm.AESGCM {
		t.Errorf("encrypts by %s, %v", again.Mechanism, err)
	}
}
