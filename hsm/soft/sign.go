package soft

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Signer = (*Token)(nil)

// A signing key lies in a file like that of any key, of another suffix and magic, sealed under the root key. It is read for each signature, which are few;
// the expanded key is wiped afterwards.

func (t *Token) signPath(id hsm.KeyID) string {
	return filepath.Join(t.dir, keysDir, id.String()+signSuffix)
}

// GenerateSigningKey implements hsm.Signer. The key is Ed25519.
func (t *Token) GenerateSigningKey(ctx context.Context, id hsm.KeyID, label string) (hsm.SigningKey, error) {
	key, err := t.generateSigning(ctx, id, label)
	return key, t.wrap("generate signing key", id, err)
}

func (t *Token) generateSigning(ctx context.Context, id hsm.KeyID, label string) (hsm.SigningKey, error) {
	if err := errors.Join(hsm.ContextError(ctx), hsm.CheckLabel(label)); err != nil {
		return hsm.SigningKey{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.shut {
		return hsm.SigningKey{}, hsm.ErrClosed
	}
	if _, err := os.Lstat(t.signPath(id)); err == nil {
		return hsm.SigningKey{}, hsm.ErrExists
	}
	seed, err := locked.New(ed25519.SeedSize)
	if err != nil {
		return hsm.SigningKey{}, err
	}
	defer seed.Close()
	rand.Read(seed.Bytes()) // never fails
	k := keyHeader{Magic: signMagic, ID: id, Created: time.Now().UTC().Truncate(time.Second), Label: label}
	head := k.encode()
	nonce, sealed, err := seal(nil, t.mu.root.Bytes(), seed.Bytes(), head)
	if err != nil {
		return hsm.SigningKey{}, err
	}
	if err := t.away(writeFile(t.signPath(id), append(append(head, nonce...), sealed...))); err != nil {
		return hsm.SigningKey{}, err
	}
	return describeSigning(k, seed.Bytes()), nil
}

func describeSigning(k keyHeader, seed []byte) hsm.SigningKey {
	priv := ed25519.NewKeyFromSeed(seed)
	defer clear(priv)
	return hsm.SigningKey{ID: k.ID, Label: k.Label, Algorithm: hsm.Ed25519, Public: append([]byte(nil), priv.Public().(ed25519.PublicKey)...)}
}

// FindSigningKey implements hsm.Signer.
func (t *Token) FindSigningKey(ctx context.Context, id hsm.KeyID) (found hsm.SigningKey, err error) {
	err = t.withSeed(ctx, id, func(k keyHeader, seed []byte) { found = describeSigning(k, seed) })
	return found, t.wrap("find signing key", id, err)
}

// Sign implements hsm.Signer.
func (t *Token) Sign(ctx context.Context, id hsm.KeyID, message []byte) (sig []byte, err error) {
	if err = hsm.CheckMessage(message); err == nil {
		err = t.withSeed(ctx, id, func(_ keyHeader, seed []byte) {
			priv := ed25519.NewKeyFromSeed(seed)
			defer clear(priv)
			sig = ed25519.Sign(priv, message)
		})
	}
	return sig, t.wrap("sign with key", id, err)
}

// withSeed runs fn with the seed of a signing key.
func (t *Token) withSeed(ctx context.Context, id hsm.KeyID, fn func(k keyHeader, seed []byte)) error {
	if err := hsm.ContextError(ctx); err != nil {
		return err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.mu.shut {
		return hsm.ErrClosed
	}
	data, err := readFile(t.signPath(id), maxKeyFile)
	if err != nil {
		return t.missing(err)
	}
	k, head, nonce, sealed, err := parseKeyFile(signMagic, id, data)
	if err != nil {
		return err
	}
	seed, err := locked.New(ed25519.SeedSize)
	if err != nil {
		return err
	}
	defer seed.Close()
	if _, err := open(seed.Bytes()[:0], t.mu.root.Bytes(), nonce, sealed, head); err != nil {
		return fmt.Errorf("%w: the key file is %w", hsm.ErrDamaged, err)
	}
	fn(k, seed.Bytes())
	return nil
}

// DestroySigningKey implements hsm.Signer, with the limits of DestroyKey.
func (t *Token) DestroySigningKey(ctx context.Context, id hsm.KeyID) error {
	if err := hsm.ContextError(ctx); err != nil {
		return t.wrap("destroy signing key", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.shut {
		return hsm.ErrClosed
	}
	return t.wrap("destroy signing key", id, t.missing(removeFile(t.signPath(id))))
}
