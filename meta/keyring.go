package meta

import (
	"context"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Keyring hands out the keys of zones. Implementations cache; Zone is called on every operation and must be cheap when cached.
type Keyring interface {
	// Zone returns the keys of a zone. Errors: ErrKeyUnavailable, ErrKeyRevoked, ErrNotFound, ErrAuth. It may block, bounded by ctx.
	Zone(ctx context.Context, id ZoneID) (*ZoneKeys, error)
}

// ZoneKeys are the expanded keys of one zone. They are shared and read-only; safe for concurrent use.
type ZoneKeys struct {
	Wrap  *blockcrypt.Sealer     // wraps file keys and the names key
	Names *blockcrypt.Sealer     // seals dentry, symlink and xattr rows
	Hash  *blockcrypt.NameHasher // makes name tags
	// Valid returns nil while the keys may be used, otherwise ErrKeyRevoked or ErrKeyUnavailable. Nil means always valid. It must be cheap.
	Valid func() error
}
