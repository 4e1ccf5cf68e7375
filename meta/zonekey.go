package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// A zone's key is replaced in three steps, between which everything goes on: the zone gets another key beside the one it has (RotateZone), file keys are wrapped
// anew (RewrapKeys) until none is left under the former one, and that is dropped (DropFormer). Whoever does it takes care that keyrings hand out both keys before the
// second step and that Updates which began with others are over before the second and the third (Quiesce).

// Next returns the row of z under another key: keys are z's present ones, Wraps are the caller's to fill in. key stays the caller's.
//
// Errors: ErrInvalid (its former key is not dropped yet), ErrAuth.
func (z *Zone) Next(volume VolumeID, keys *ZoneKeys, key *blockcrypt.Key, made int64) (*Zone, error) {
	if z.Former != nil || z.KeyVersion == math.MaxUint32 || keys.Version != z.KeyVersion {
		return nil, fmt.Errorf("zone %d, key version %d (of %d): another key is not due: %w", z.ID, z.KeyVersion, keys.Version, ErrInvalid)
	}
	next := *z
	next.Former = &FormerKey{Wraps: z.Wraps, Commitment: z.Commitment}
	next.KeyVersion, next.KeyMade, next.Wraps = z.KeyVersion+1, made, nil
	next.Commitment = blockcrypt.ZoneCommitment(key, volume, uint64(z.ID))
	wrap, err := z.wrapSealer(volume, key)
	if err != nil {
		return nil, err
	}
	aad := blockcrypt.NamesKeyAAD(volume, uint64(z.ID))
	names, err := keys.Wrap.Unwrap(z.Names[:], aad)
	if err != nil {
		return nil, fmt.Errorf("unwrap names key of zone %d: %w", z.ID, authError(err))
	}
	defer names.Wipe()
	if next.Names, err = wrap.Wrap(names, aad); err != nil {
		return nil, fmt.Errorf("wrap names key of zone %d: %w", z.ID, err)
	}
	return &next, nil
}

// RotateZone gives a zone the key of next, which z.Next made of it. ErrStale if the zone has another key or other wraps than z by now; ErrNotFound.
func (s *Store) RotateZone(ctx context.Context, z, next *Zone) error {
	_, err := s.Update(ctx, func(tx *Tx) error {
		cur, err := tx.zone(z.ID)
		if err != nil {
			return err
		}
		if !cur.sameKeys(z) {
			return fmt.Errorf("it was changed meanwhile: %w", ErrStale)
		}
		cur.KeyVersion, cur.KeyMade, cur.Wraps = next.KeyVersion, next.KeyMade, next.Wraps
		cur.Names, cur.Commitment, cur.Former = next.Names, next.Commitment, next.Former
		return tx.putZone(cur)
	})
	if err != nil {
		return fmt.Errorf("give zone %d another key: %w", z.ID, err)
	}
	return nil
}

// DropFormer takes away a zone's former key: what is wrapped under it is lost. ErrNotFound.
func (s *Store) DropFormer(ctx context.Context, id ZoneID) error {
	_, err := s.Update(ctx, func(tx *Tx) error {
		z, err := tx.zone(id)
		if err != nil || z.Former == nil {
			return err
		}
		z.Former = nil
		return tx.putZone(z)
	})
	if err != nil {
		return fmt.Errorf("drop the former key of zone %d: %w", id, err)
	}
	return nil
}

// sameKeys tells whether two rows of a zone have the same keys under the same wraps.
func (z *Zone) sameKeys(other *Zone) bool {
	if z.Commitment != other.Commitment || !equalWraps(z.Wraps, other.Wraps) || (z.Former == nil) != (other.Former == nil) {
		return false
	}
	return z.Former == nil || equalWraps(z.Former.Wraps, other.Former.Wraps)
}

func equalWraps(a, b []ZoneWrap) bool {
	return slices.EqualFunc(a, b, func(a, b ZoneWrap) bool { return a.KeyID == b.KeyID && bytes.Equal(a.Blob, b.Blob) })
}

// rewrapBatch is how many inodes one transaction of RewrapKeys looks at.
const rewrapBatch = 256

// Rewrapping is what one step of RewrapKeys did.
type Rewrapping struct {
	Next  Ino   // where the next step begins: after this one
	More  bool  // there are more inodes
	Seen  int   // regular files of the zones that are meant
	Done  int   // of them wrapped anew
	Bad   []Ino // of them whose keys did not open: they stay as they are
	Cause error // of the last of Bad
}

// RewrapKeys wraps the keys of files that are wrapped under a former key of their zone anew, under its present one, in one transaction: those of the next some inodes
// after one, in the zone, or in any for 0. Neither times nor versions that callers see change: no data is touched.
//
// Errors: those of the zones' keys; the KV store's.
func (s *Store) RewrapKeys(ctx context.Context, zone ZoneID, after Ino) (out Rewrapping, err error) {
	for limit := rewrapBatch; ; limit /= 4 {
		_, err = s.Update(ctx, func(tx *Tx) error {
			out = Rewrapping{Next: after}
			tx.passing = true
			return tx.rewrapKeys(&out, zone, after, min(limit, max(tx.s.batch, 1)))
		})
		if !errors.Is(err, kv.ErrTooBig) || limit < 4 {
			return out, err
		}
	}
}

func (tx *Tx) rewrapKeys(out *Rewrapping, zone ZoneID, after Ino, limit int) error {
	var some []*Attr
	n := 0
	err := tx.ScanInodes(after, limit, func(a *Attr) bool {
		n++
		out.Next = a.Ino
		if a.IsRegular() && (zone == 0 || a.Zone == zone) {
			some = append(some, a)
		}
		return true
	})
	if err != nil {
		return err
	}
	out.More, out.Seen = n == limit, len(some)
	zones := map[ZoneID]*ZoneKeys{}
	for _, a := range some {
		if zones[a.Zone] == nil {
			if zones[a.Zone], err = tx.s.zoneKeys(tx.ctx, a.Zone); err != nil {
				return err
			}
		}
		zk := zones[a.Zone]
		if !slices.ContainsFunc(a.Wraps, func(w Wrap) bool { return !w.ByCMK() && w.KeyVersion != zk.Version }) {
			continue
		}
		if err := tx.rewrapFile(zk, a); err != nil {
			out.Bad, out.Cause = append(out.Bad, a.Ino), err
			continue
		}
		out.Done++
	}
	return nil
}

// rewrapFile puts a, which was read in this transaction, with its wraps made anew.
func (tx *Tx) rewrapFile(zk *ZoneKeys, a *Attr) error {
	next := a.Clone()
	if err := tx.s.rewrap(zk, zk, next, a); err != nil {
		return err
	}
	next.Version++
	tx.attrs[a.Ino] = &txAttr{base: a, cur: next, dirty: true}
	return nil
}

// CountFiles counts the regular files of a zone, or of all for 0, by a bare scan of their rows.
func (s *Store) CountFiles(ctx context.Context, zone ZoneID) (files uint64, err error) {
	for after := Ino(0); ; {
		n := 0
		err := s.View(ctx, func(tx *Tx) error {
			tx.passing = true
			return tx.ScanInodes(after, rewrapBatch, func(a *Attr) bool {
				n++
				after = a.Ino
				if a.IsRegular() && (zone == 0 || a.Zone == zone) {
					files++
				}
				return true
			})
		})
		if err != nil || n < rewrapBatch {
			return files, err
		}
	}
}
