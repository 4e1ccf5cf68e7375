package blockcrypt

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

// KeySize is the length of every secret key of the format, in bytes.
const KeySize = 32

const redacted = "[redacted]"

// Key is a raw 256-bit secret. It prints, logs and marshals as [redacted].
//
// Package fmt calls no methods on unexported fields: a struct that holds a Key
// in one prints its bytes, one that holds a *Key prints its address (its bytes
// with %s and %q). So structs hold a *Key, and those that might be printed
// have a Format method of their own. The zero Key is not a valid secret;
// nothing refuses it.
type Key [KeySize]byte

// NewKey draws a random key. The caller wipes it after use.
func NewKey() (*Key, error) {
	k := new(Key)
	if _, err := rand.Read(k[:]); err != nil {
		return nil, fmt.Errorf("draw key: %w", err)
	}
	return k, nil
}

// KeyFromBytes copies a 32-byte secret. b stays the caller's, who wipes it.
// Any other length is ErrSize.
func KeyFromBytes(b []byte) (*Key, error) {
	if len(b) != KeySize {
		return nil, fmt.Errorf("key of %d bytes: %w", len(b), ErrSize)
	}
	k := new(Key)
	copy(k[:], b)
	return k, nil
}

// Wipe overwrites the key with zeros. A nil key is left alone.
func (k *Key) Wipe() {
	if k != nil {
		clear(k[:])
	}
}

// String returns [redacted].
func (k Key) String() string { return redacted }

// GoString returns [redacted].
func (k Key) GoString() string { return redacted }

// Format writes [redacted] whatever the verb.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue returns [redacted].
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns [redacted], so that an encoder that walks structs does
// not write the bytes. There is no UnmarshalText.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// The types that hold expanded keys print as [redacted] too.

// Format writes [redacted] whatever the verb.
func (c *BlockCipher) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// Format writes [redacted] whatever the verb.
func (s *Sealer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// Format writes [redacted] whatever the verb.
func (n *ObjectNamer) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// Format writes [redacted] whatever the verb.
func (h *NameHasher) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }
