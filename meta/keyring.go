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
	Wrap *blockcrypt.Sealer // wraps file keys and the names key
	// Version is that of the zone key that Wrap comes from. Former is that of the one before, as long as anything may be wrapped under it; nil otherwise.
	Version uint32
	Former  *blockcrypt.Sealer
	Names   *blockcrypt.Sealer     // seals dentry, symlink and xattr rows
	Hash    *blockcrypt.NameHasher // makes name tags
	// Files has data keys wrapped by the zone's CMK itself; nil where the zone's key wraps them.
	Files FileKeys
	// Valid returns nil while the keys may be used, otherwise ErrKeyRevoked or ErrKeyUnavailable. Nil means always valid. It must be cheap.
	Valid func() error
}

// opens returns what opens wraps made under a version of the zone key; nil if that is not among these keys.
func (zk *ZoneKeys) opens(version uint32) *blockcrypt.Sealer {
	switch {
	case version == zk.Version:
		return zk.Wrap
	case version+1 == zk.Version:
		return zk.Former
	}
	return nil
}
