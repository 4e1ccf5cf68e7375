package hsm

import (
	"context"
	"fmt"
)

// Algorithms of signing keys.
const (
	// Ed25519: the public key is 32 bytes, a signature 64 (RFC 8032, pure).
	Ed25519 = "Ed25519"
	// ECDSAP256 is ECDSA on P-256 over the SHA-256 of the message: the public key
	// is the uncompressed point, 65 bytes, a signature r and s, 32 bytes each.
	ECDSAP256 = "ECDSA-P256"
)

// MaxMessage is the longest message Sign takes, in bytes. The shortest is 1.
const MaxMessage = 4096

// Signer is what a token does for the audit log, beside Token and under the same
// rules: every method is bounded, safe for concurrent use and may return
// ErrTokenAway. Signing keys have ids of their own kind: a Token's methods do not
// find them, nor the other way round.
type Signer interface {
	// GenerateSigningKey makes a key pair inside the token, Ed25519 where the token
	// has it, else ECDSAP256, and returns when it is durable there. The private
	// key is sensitive and cannot be extracted. ErrExists if the id is in use;
	// ErrUnfit if the token has neither algorithm.
	GenerateSigningKey(ctx context.Context, id KeyID, label string) (SigningKey, error)

	// FindSigningKey describes a key. ErrKeyNotFound.
	FindSigningKey(ctx context.Context, id KeyID) (SigningKey, error)

	// Sign signs 1 to MaxMessage bytes. The caller, who knows the public key,
	// verifies. ErrSize, ErrKeyNotFound.
	Sign(ctx context.Context, id KeyID, message []byte) ([]byte, error)

	// DestroySigningKey removes a key for good. ErrKeyNotFound if there is none.
	DestroySigningKey(ctx context.Context, id KeyID) error
}

// SigningKey describes a key pair in a token.
type SigningKey struct {
	ID        KeyID
	Label     string
	Algorithm string // Ed25519 or ECDSAP256
	Public    []byte
}

// CheckMessage refuses messages out of range with ErrSize. Implementations call
// it first.
func CheckMessage(message []byte) error {
	if len(message) == 0 || len(message) > MaxMessage {
		return fmt.Errorf("%w: message of %d bytes, allowed are 1 to %d", ErrSize, len(message), MaxMessage)
	}
	return nil
}
