package mount

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
)

// How key material is wrapped for its way to the key manager.
const (
	WrappingAlgorithm = "RSAES_OAEP_SHA_256"
	WrappingKeySpec   = "RSA_3072"
	materialSize      = 32
)

// ReadKeyMaterial reads an AES-256 key from a file that nobody else can read: 32 bytes, or 64 hexadecimal digits. The caller closes it. ErrNoSecret.
func ReadKeyMaterial(path string) (*locked.Buffer, error) {
	b, err := readSecretFile(path, false)
	if err != nil {
		return nil, err
	}
	if len(b.Bytes()) == materialSize {
		return b, nil
	}
	defer b.Close()
	raw := make([]byte, materialSize)
	defer clear(raw)
	text := strings.TrimSpace(string(b.Bytes()))
	if n, err := hex.Decode(raw, []byte(text)); err != nil || n != materialSize || len(text) != 2*materialSize {
		return nil, fmt.Errorf("%w: %s holds neither 32 bytes nor 64 hexadecimal digits", ErrNoSecret, path)
	}
	return locked.FromBytes(raw)
}

// ImportMaterial wraps an AES-256 key by a fresh wrapping key of the key manager, an RSA key of the spec, and imports it into the CMK that in names, with in's expiry. It returns the material's id. Errors: those of
// GetParametersForImport and ImportKeyMaterial.
func (k *Keys) ImportMaterial(ctx context.Context, in keymgr.ImportInput, spec string, material *locked.Buffer) (id string, err error) {
	p, err := k.GetParametersForImport(ctx, keymgr.Caller{}, in.KeyID, WrappingAlgorithm, spec)
	if err != nil {
		return "", err
	}
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	wrapping, ok := public.(*rsa.PublicKey)
	if err != nil || !ok {
		return "", fmt.Errorf("%w: the key manager's wrapping key is no RSA key", keymgr.ErrInternal)
	}
	if in.Encrypted, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, wrapping, material.Bytes(), nil); err != nil {
		return "", fmt.Errorf("wrap key material: %w", err)
	}
	in.Token = p.Token
	return k.ImportKeyMaterial(ctx, keymgr.Caller{}, in)
}
