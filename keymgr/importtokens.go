package keymgr

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"hash"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Limits of imports; AWS'.
const (
	MaxImport    = 6144                 // bytes of an import token, and of encrypted key material
	importWindow = 24 * time.Hour       // in which parameters can be used
	maxValidity  = 365 * 24 * time.Hour // of key material that expires
)

// Wrapping algorithms. AES key wrap with padding (RSA_AES_KEY_WRAP_*) is not among them.
const (
	WrapOAEPSHA1   = "RSAES_OAEP_SHA_1"
	WrapOAEPSHA256 = "RSAES_OAEP_SHA_256"
)

// wrapHash is the hash of a wrapping algorithm.
func wrapHash(algorithm string) (func() hash.Hash, bool) {
	switch algorithm {
	case WrapOAEPSHA1:
		return sha1.New, true
	case WrapOAEPSHA256:
		return sha256.New, true
	}
	return nil, false
}

// wrapBits are the sizes of wrapping keys.
var wrapBits = map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}

// An import token holds the private key that unwraps the material, so that nothing has to be kept for a day for who may never come back:
//
//	version u8 = 1 || XAES-256-GCM(key UUID x[16] || valid to u64 (seconds since 1970) || hash u8 (1: SHA-1, 2: SHA-256) || PKCS #8)
//
// AAD = "kmsfs import token" || version u8 || key store id x[16].
const (
	importTokenVersion = 1
	importTokenHead    = 16 + 8 + 1
)

// importTokens makes and reads import tokens.
type importTokens struct {
	sealer *blockcrypt.Sealer
	aad    []byte
}

func newImportTokens(id [16]byte, storeKey *blockcrypt.Key) (*importTokens, error) {
	k, err := blockcrypt.DeriveKey(storeKey, "keystore import tokens", id[:])
	if err != nil {
		return nil, fmt.Errorf("derive import tokens key: %w", err)
	}
	defer k.Wipe()
	sealer, err := blockcrypt.NewSealer(k)
	if err != nil {
		return nil, fmt.Errorf("expand import tokens key: %w", err)
	}
	return &importTokens{sealer, append(append([]byte("kmsfs import token"), importTokenVersion), id[:]...)}, nil
}

// importToken is what an import token says.
type importToken struct {
	key       keyUUID
	validTo   time.Time
	algorithm string
	private   *rsa.PrivateKey
}

// make draws a wrapping key and returns its public half (PKIX) and the token. It takes seconds for long keys.
func (t *importTokens) make(k keyUUID, algorithm string, bits int, validTo time.Time) (public, token []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, nil, fmt.Errorf("make a wrapping key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a wrapping key: %w", err)
	}
	defer clear(der)
	if public, err = x509.MarshalPKIXPublicKey(private.Public()); err != nil {
		return nil, nil, fmt.Errorf("encode a wrapping key: %w", err)
	}
	plain := make([]byte, 0, importTokenHead+len(der))
	plain = append(plain, k[:]...)
	plain = binary.BigEndian.AppendUint64(plain, uint64(validTo.Unix()))
	plain = append(plain, map[string]byte{WrapOAEPSHA1: 1, WrapOAEPSHA256: 2}[algorithm])
	plain = append(plain, der...)
	defer clear(plain)
	token, err = t.sealer.Seal([]byte{importTokenVersion}, plain, t.aad)
	return public, token, err
}

// read opens a token. ErrInvalidImportToken.
func (t *importTokens) read(b []byte) (importToken, error) {
	invalid := fault(ErrInvalidImportToken, "The import token is not one of this key store")
	if len(b) == 0 || b[0] != importTokenVersion {
		return importToken{}, invalid
	}
	plain, err := t.sealer.Open(nil, b[1:], t.aad)
	defer clear(plain)
	if err != nil || len(plain) < importTokenHead {
		return importToken{}, invalid
	}
	out := importToken{key: keyUUID(plain[:16]), validTo: time.Unix(int64(binary.BigEndian.Uint64(plain[16:])), 0).UTC()} // authentic, so ours
	switch plain[24] {
	case 1:
		out.algorithm = WrapOAEPSHA1
	case 2:
		out.algorithm = WrapOAEPSHA256
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain[importTokenHead:])
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return importToken{}, invalid
	}
	out.private = private
	return out, nil
}

// unwrap opens encrypted key material, which the caller wipes. ErrInvalidCiphertext.
func (t importToken) unwrap(encrypted []byte) ([]byte, error) {
	newHash, ok := wrapHash(t.algorithm)
	if !ok {
		return nil, fault(ErrInternal, "an import token without a known algorithm")
	}
	material, err := rsa.DecryptOAEP(newHash(), nil, t.private, encrypted, nil)
	if err != nil {
		return nil, &Fault{Class: ErrInvalidCiphertext, Cause: err}
	}
	return material, nil
}
