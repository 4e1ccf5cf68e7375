package hsm

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// KeyID names a key in a token. It is random and not secret.
type KeyID [16]byte

// NewKeyID returns a random id.
func NewKeyID() KeyID {
	var id KeyID
	rand.Read(id[:]) // never fails: crypto/rand aborts the program instead
	return id
}

// ParseKeyID reads the form that String writes: 32 hexadecimal digits.
// ErrKeyID for anything else.
func ParseKeyID(s string) (KeyID, error) {
	var id KeyID
	if len(s) != 2*len(id) {
		return KeyID{}, fmt.Errorf("%w: %d characters instead of %d", ErrKeyID, len(s), 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return KeyID{}, fmt.Errorf("%w: %w", ErrKeyID, err)
	}
	return id, nil
}

// String returns 32 lower-case hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives the form of String, in JSON for instance.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the reverse of MarshalText: errors as ParseKeyID.
func (id *KeyID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseKeyID(string(text))
	return err
}
