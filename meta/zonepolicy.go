package meta

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// The policy of a zone is a row of its own beside the zone's, which holds its version and hash: neither can be taken away, or be put back to an older state,
// without the other. Both are structure, sealed under the volume's key: they can be read while the zone's CMK is disabled.

// Policy returns the policy of a zone and its version; nil if it has none. The slice is the caller's. ErrAuth if the row is not the one that the zone's row
// commits to; ErrNotFound if there is no such zone.
func (s *Store) Policy(ctx context.Context, id ZoneID) (document []byte, version uint64, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		z, err := tx.zone(id)
		if err != nil {
			return err
		}
		version = z.PolicyVersion
		document, err = tx.policy(z)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read policy of zone %d: %w", id, err)
	}
	return document, version, nil
}

// ChangeZone lets fn change a zone's row and, unless document is nil, its policy: an empty one removes it. fn may run more than once; nil changes nothing. Id,
// directory, keys, but for their wraps, and the policy's version and hash are kept. It returns the row as it is now. Errors: ErrNotFound, ErrInvalid, fn's.
func (s *Store) ChangeZone(ctx context.Context, id ZoneID, document []byte, fn func(*Zone) error) (*Zone, kv.Rev, error) {
	var z *Zone
	rev, err := s.Update(ctx, func(tx *Tx) error {
		var err error
		if z, err = tx.zone(id); err != nil {
			return err
		}
		old := *z
		if fn != nil {
			if err := fn(z); err != nil {
				return err
			}
		}
		z.ID, z.Dir, z.Names, z.Commitment = old.ID, old.Dir, old.Names, old.Commitment
		z.KeyVersion, z.KeyMade = old.KeyVersion, old.KeyMade
		z.PolicyVersion, z.PolicyHash = old.PolicyVersion, old.PolicyHash
		if document == nil {
			return tx.putZone(z)
		}
		return tx.putZoneAndPolicy(z, document)
	})
	s.params.drop(id)
	if err != nil {
		return nil, 0, fmt.Errorf("change zone %d: %w", id, err)
	}
	return z, rev, nil
}

// Zone reads a zone's row. ErrNotFound.
func (tx *Tx) Zone(id ZoneID) (*Zone, error) { return tx.zone(id) }

// zone reads a zone's row.
func (tx *Tx) zone(id ZoneID) (*Zone, error) {
	key := zoneKey(id)
	sealed, err := tx.get(key)
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return nil, ErrNotFound
	}
	return openZone(tx.s.rows, key, sealed)
}

func (tx *Tx) putZone(z *Zone) error {
	if err := z.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	key := zoneKey(z.ID)
	sealed, err := tx.s.rows.seal(key, encodeZone(z))
	if err == nil {
		tx.w.Put(key, sealed)
	}
	return err
}

// putZoneAndPolicy writes both rows; an empty document is none.
func (tx *Tx) putZoneAndPolicy(z *Zone, document []byte) error {
	if len(document) > MaxPolicy {
		return fmt.Errorf("policy of %d bytes: %w", len(document), ErrInvalid)
	}
	z.PolicyVersion++
	z.PolicyHash = [sha256.Size]byte{}
	key := policyKey(z.ID)
	if len(document) == 0 {
		tx.w.Delete(key)
		return tx.putZone(z)
	}
	z.PolicyHash = sha256.Sum256(document)
	sealed, err := tx.s.rows.seal(key, encodePolicy(z.PolicyVersion, document))
	if err != nil {
		return err
	}
	tx.w.Put(key, sealed)
	return tx.putZone(z)
}

// policy reads the policy that a zone's row commits to; nil for none.
func (tx *Tx) policy(z *Zone) ([]byte, error) {
	key := policyKey(z.ID)
	sealed, err := tx.get(key)
	if err != nil {
		return nil, err
	}
	if z.PolicyHash == [sha256.Size]byte{} {
		if sealed != nil {
			return nil, fmt.Errorf("zone %d has no policy, but there is a row of one: %w", z.ID, ErrAuth)
		}
		return nil, nil
	}
	if sealed == nil {
		return nil, fmt.Errorf("the policy of zone %d, version %d, is missing: %w", z.ID, z.PolicyVersion, ErrAuth)
	}
	plain, err := tx.s.rows.open(key, sealed)
	if err != nil {
		return nil, err
	}
	version, document, err := decodePolicy(plain)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(document)
	if version != z.PolicyVersion || subtle.ConstantTimeCompare(hash[:], z.PolicyHash[:]) != 1 {
		return nil, fmt.Errorf("the policy of zone %d is version %d, it should be %d: %w", z.ID, version, z.PolicyVersion, ErrAuth)
	}
	return append([]byte(nil), document...), nil
}
