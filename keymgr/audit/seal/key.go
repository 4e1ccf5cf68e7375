package seal

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Algorithm of a signing key; the numbers are C2SP's.
type Algorithm uint8

const (
	Ed25519   Algorithm = 1 // public key: 32 bytes; signature: 64
	ECDSAP256 Algorithm = 2 // public key: uncompressed point, 65 bytes; SHA-256; signature in the token: r and s, 32 bytes each; in a note: DER
)

// ErrKey: not a public key of a kind that seals logs.
var ErrKey = errors.New("not a public key for audit logs")

// PublicKey verifies seals.
type PublicKey struct {
	Name      string // KeyName of the key store
	Algorithm Algorithm
	Bytes     []byte
}

// String is the key's text, as ParsePublicKey reads it: NAME+HASH+BASE64.
func (k PublicKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.Name, k.hash(), base64.StdEncoding.EncodeToString(append([]byte{byte(k.Algorithm)}, k.Bytes...)))
}

// ParsePublicKey reads a key's text. ErrKey.
func ParsePublicKey(text string) (PublicKey, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), "+")
	hash, enc, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(enc)
	if err != nil || len(raw) < 2 || len(raw) > 128 {
		return PublicKey{}, ErrKey
	}
	k := PublicKey{Name: name, Algorithm: Algorithm(raw[0]), Bytes: raw[1:]}
	if _, err := k.verifier(); err != nil {
		return PublicKey{}, err
	}
	if n, err := strconv.ParseUint(hash, 16, 32); err != nil || uint32(n) != k.hash() {
		return PublicKey{}, fmt.Errorf("%w: its hash does not fit", ErrKey)
	}
	return k, nil
}

// hash is the key's id in a signature line: C2SP's, which for ECDSA is not that of the name.
func (k PublicKey) hash() uint32 {
	var sum [sha256.Size]byte
	if k.Algorithm == ECDSAP256 {
		der, err := k.spki()
		if err != nil {
			return 0
		}
		sum = sha256.Sum256(der)
	} else {
		sum = sha256.Sum256(append([]byte(k.Name+"\n"+string(rune(k.Algorithm))), k.Bytes...))
	}
	return binary.BigEndian.Uint32(sum[:])
}

func (k PublicKey) ecdsa() (*ecdsa.PublicKey, error) {
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return pub, nil
}

func (k PublicKey) spki() ([]byte, error) {
	pub, err := k.ecdsa()
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// verifier gives the key as a note's. ErrKey.
func (k PublicKey) verifier() (note.Verifier, error) {
	if !strings.HasPrefix(k.Name, namePrefix) || strings.ContainsAny(k.Name, " \t\r\n+") {
		return nil, fmt.Errorf("%w: name %.60q", ErrKey, k.Name)
	}
	switch {
	case k.Algorithm == Ed25519 && len(k.Bytes) == ed25519.PublicKeySize:
		return verifier{k, func(msg, sig []byte) bool { return ed25519.Verify(k.Bytes, msg, sig) }}, nil
	case k.Algorithm == ECDSAP256:
		pub, err := k.ecdsa()
		if err != nil {
			return nil, err
		}
		return verifier{k, func(msg, sig []byte) bool {
			sum := sha256.Sum256(msg)
			return ecdsa.VerifyASN1(pub, sum[:], sig)
		}}, nil
	}
	return nil, fmt.Errorf("%w: algorithm %d, %d bytes", ErrKey, k.Algorithm, len(k.Bytes))
}

// verifier implements note.Verifier.
type verifier struct {
	key    PublicKey
	verify func(msg, sig []byte) bool
}

func (v verifier) Name() string                { return v.key.Name }
func (v verifier) KeyHash() uint32             { return v.key.hash() }
func (v verifier) Verify(msg, sig []byte) bool { return v.verify(msg, sig) }

// signer implements note.Signer. It checks what the token gives back: a seal that does not verify is worse than none.
type signer struct {
	note.Verifier
	sign func(message []byte) ([]byte, error)
}

func (s signer) Sign(msg []byte) ([]byte, error) {
	sig, err := s.sign(msg)
	if err != nil {
		return nil, err
	}
	if s.Verifier.(verifier).key.Algorithm == ECDSAP256 {
		if len(sig) != 64 {
			return nil, fmt.Errorf("%w: signature of %d bytes", ErrSeal, len(sig))
		}
		if sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])}); err != nil {
			return nil, err
		}
	}
	if !s.Verify(msg, sig) {
		return nil, fmt.Errorf("%w: the token's signature does not verify", ErrSeal)
	}
	return sig, nil
}
