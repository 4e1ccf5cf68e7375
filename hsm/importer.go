package hsm

import (
	"context"
	"fmt"
)

// KeySize is the length of a backing key, in bytes.
const KeySize = 32

// Importer is a Token that may take keys from outside, under the same rules as Token. Info.Imports says whether this one does.
type Importer interface {
	// ImportKey puts a key of KeySize bytes into the token and returns when it is durable there. From then on it is as one that GenerateKey
	// made, but its KeyInfo says neither Local nor the rest. key is only read, and the caller wipes it. ErrExists if the id is in use, ErrUnfit
	// if the token takes no keys from outside, or gives such a key away, ErrSize. When it fails with ErrTokenAway, the key may be there all the same.
	ImportKey(ctx context.Context, id KeyID, label string, key []byte) (KeyInfo, error)
}

// CheckImport refuses arguments of ImportKey that are out of range with ErrSize. Implementations call it first.
func CheckImport(label string, key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("%w: a key of %d bytes instead of %d", ErrSize, len(key), KeySize)
	}
	return CheckLabel(label)
}
