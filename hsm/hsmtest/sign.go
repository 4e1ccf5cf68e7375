package hsmtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// Verifies says whether sig is a signature of message by key.
func Verifies(key hsm.SigningKey, message, sig []byte) bool {
	switch key.Algorithm {
	case hsm.Ed25519:
		return len(key.Public) == ed25519.PublicKeySize && ed25519.Verify(key.Public, message, sig)
	case hsm.ECDSAP256:
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key.Public)
		if err != nil || len(sig) != 64 {
			return false
		}
		sum := sha256.Sum256(message)
		return ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	return false
}

// Signing is the part of the suite about hsm.Signer, which every token implements.
func Signing(t *testing.T, tok hsm.Token) {
	s, ok := tok.(hsm.Signer)
	if !ok {
		t.Fatalf("%T does not sign", tok)
	}
	ctx := Context(t)
	id, other := hsm.NewKeyID(), hsm.NewKeyID()
	key, err := s.GenerateSigningKey(ctx, id, "signs")
	if err != nil {
		t.Fatal(err)
	}
	if key.ID != id || key.Label != "signs" {
		t.Errorf("made %+v", key)
	}
	second, err := s.GenerateSigningKey(ctx, other, "signs")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 32, 200, hsm.MaxMessage} {
		message := bytesOf(n)
		sig, err := s.Sign(ctx, id, message)
		if err != nil {
			t.Fatal(err)
		}
		if !Verifies(key, message, sig) {
			t.Errorf("%d bytes: the signature does not verify", n)
		}
		if Verifies(second, message, sig) {
			t.Errorf("%d bytes: the signature verifies by another key", n)
		}
		message[0] ^= 1
		if Verifies(key, message, sig) {
			t.Errorf("%d bytes: the signature verifies for another message", n)
		}
	}
	found, err := s.FindSigningKey(ctx, id)
	if err != nil || !bytes.Equal(found.Public, key.Public) || found.Algorithm != key.Algorithm || found.Label != key.Label {
		t.Errorf("found %+v, %v, made %+v", found, err, key)
	}
	testSigningRefusals(t, ctx, s, id)
	testSigningApart(t, ctx, tok, s, id)
	if err := s.DestroySigningKey(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = s.Sign(ctx, id, []byte("x"))
	wantErr(t, "sign with a destroyed key", err, hsm.ErrKeyNotFound)
	if _, err := s.Sign(ctx, other, []byte("x")); err != nil {
		t.Errorf("the other key is gone as well: %v", err)
	}
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = s.Sign(ctx, other, []byte("x"))
	wantErr(t, "sign when closed", err, hsm.ErrClosed)
}

func testSigningRefusals(t *testing.T, ctx context.Context, s hsm.Signer, id hsm.KeyID) {
	_, err := s.GenerateSigningKey(ctx, id, "again")
	wantErr(t, "generate under a used id", err, hsm.ErrExists)
	_, err = s.GenerateSigningKey(ctx, hsm.NewKeyID(), "")
	wantErr(t, "generate without a label", err, hsm.ErrSize)
	for _, n := range []int{0, hsm.MaxMessage + 1} {
		_, err = s.Sign(ctx, id, make([]byte, n))
		wantErr(t, fmt.Sprintf("sign %d bytes", n), err, hsm.ErrSize)
	}
	none := hsm.NewKeyID()
	_, err = s.Sign(ctx, none, []byte("x"))
	wantErr(t, "sign without a key", err, hsm.ErrKeyNotFound)
	_, err = s.FindSigningKey(ctx, none)
	wantErr(t, "find no key", err, hsm.ErrKeyNotFound)
	wantErr(t, "destroy no key", s.DestroySigningKey(ctx, none), hsm.ErrKeyNotFound)
}

// testSigningApart: backing keys and signing keys are not found in each other's place, and both work side by side.
func testSigningApart(t *testing.T, ctx context.Context, tok hsm.Token, s hsm.Signer, id hsm.KeyID) {
	backing := NewKey(t, tok)
	_, err := s.Sign(ctx, backing, []byte("x"))
	wantErr(t, "sign with a backing key", err, hsm.ErrKeyNotFound)
	_, err = tok.Encrypt(ctx, id, []byte("x"), nil)
	wantErr(t, "encrypt with a signing key", err, hsm.ErrKeyNotFound)
	wantErr(t, "destroy a signing key as a backing key", tok.DestroyKey(ctx, id), hsm.ErrKeyNotFound)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if _, err := s.Sign(ctx, id, []byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := tok.Encrypt(ctx, backing, []byte("x"), nil); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
