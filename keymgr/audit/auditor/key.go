package auditor

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrKey: not an auditor's key.
	ErrKey = errors.New("not an auditor's key")
	// ErrSealed: not an event sealed to this auditor, or not as it was sealed.
	ErrSealed = errors.New("not an event sealed to this auditor")
)

const (
	publicPrefix = "kmsfs-auditor-x25519:"
	secretPrefix = "KMSFS-AUDITOR-SECRET-X25519:"
	keySize      = 32
	idSize       = 8
)

// keyID names a public key: the first bytes of its SHA-256.
type keyID [idSize]byte

// PublicKey is what events are sealed to.
type PublicKey struct {
	id    keyID
	bytes []byte
}

// SecretKey opens them.
type SecretKey struct {
	id  keyID
	key *ecdh.PrivateKey
}

// NewKey draws a secret key.
func NewKey() (*SecretKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return secret(k), nil
}

func secret(k *ecdh.PrivateKey) *SecretKey { return &SecretKey{public(k.PublicKey().Bytes()).id, k} }

func public(b []byte) PublicKey {
	sum := sha256.Sum256(b)
	return PublicKey{keyID(sum[:idSize]), b}
}

// Public is the key that belongs to it.
func (k *SecretKey) Public() PublicKey { return public(k.key.PublicKey().Bytes()) }

// Text is what ParseSecret reads. It is secret.
func (k *SecretKey) Text() []byte {
	return base64.StdEncoding.AppendEncode([]byte(secretPrefix), k.key.Bytes())
}

// String is what ParsePublic reads.
func (k PublicKey) String() string { return publicPrefix + base64.StdEncoding.EncodeToString(k.bytes) }

// parse reads the bytes of a key behind its prefix.
func parse(text, prefix string) ([]byte, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	b, err := base64.StdEncoding.Strict().DecodeString(rest)
	if !ok || err != nil || len(b) != keySize {
		return nil, fmt.Errorf("%w: it is %q and %d bytes in base64", ErrKey, prefix, keySize)
	}
	return b, nil
}

// ParsePublic reads a public key. ErrKey.
func ParsePublic(text string) (PublicKey, error) {
	b, err := parse(text, publicPrefix)
	if err != nil {
		return PublicKey{}, err
	}
	k := public(b)
	if _, err := k.hpke(); err != nil {
		return PublicKey{}, err
	}
	if _, _, err := newSession(k); err != nil { // a point of small order
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return k, nil
}

// ParseSecret reads a secret key. ErrKey; the error does not show it.
func ParseSecret(text string) (*SecretKey, error) {
	b, err := parse(text, secretPrefix)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return nil, ErrKey
	}
	return secret(k), nil
}

func (k PublicKey) hpke() (hpke.PublicKey, error) {
	p, err := ecdh.X25519().NewPublicKey(k.bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return hpke.NewDHKEMPublicKey(p)
}
