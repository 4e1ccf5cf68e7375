package meta

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// ZoneWrap is one wrap of a zone key. Any one of a zone's wraps opens it.
type ZoneWrap struct {
	KeyID string // which CMK wrapped it (an ARN); 1 to 2048 bytes
	Blob  []byte // what the key manager returned; opaque, 1 to 8192 bytes
}

// Zone is the row of a zone: a directory with a key of its own, and everything below it that has none.
type Zone struct {
	ID    ZoneID
	Dir   Ino        // the zone's directory
	Wraps []ZoneWrap // of the zone key, 1 to MaxZoneWraps
	// Names is the names key, random, wrapped under the key that ZoneWrapKey derives from the zone key (blockcrypt.NamesKeyAAD).
	Names      [blockcrypt.WrapSize]byte
	Commitment [blockcrypt.CommitmentSize]byte // blockcrypt.ZoneCommitment of the zone key
	Params                                     // of new regular files
	Flags      ZoneFlags
	KeyTTL     uint32 // seconds for which the zone's keys may be used without asking the key manager again; 0: the mount's
	// PolicyVersion counts the policies that the zone has had, and PolicyHash is the SHA-256 of the present one, all zeros for none: a policy row that
	// is missing, or an older one, is refused. Kept by this package.
	PolicyVersion uint64
	PolicyHash    [sha256.Size]byte
	// KeyVersion counts the keys that the zone has had, from 1, and KeyMade is when the present one was drawn, in nanoseconds since 1970.
	KeyVersion uint32
	KeyMade    int64
	Former     *FormerKey // the key before, as long as file keys may be wrapped under it; else nil
}

// FormerKey is a zone key that is being replaced. Its version is the one before the zone's.
type FormerKey struct {
	Wraps      []ZoneWrap
	Commitment [blockcrypt.CommitmentSize]byte
}

// ZoneFlags of a zone.
type ZoneFlags uint8

const (
	// ZoneLocked: an administrator has locked the zone, and its keys are not to be unwrapped.
	ZoneLocked ZoneFlags = 1 << iota

	// ZoneCMK: data keys of new files are wrapped by the zone's CMK itself, of which there is one.
	ZoneCMK

	zoneFlagsKnown = ZoneLocked | ZoneCMK
)

// Locked reports whether the zone is locked.
func (z *Zone) Locked() bool { return z.Flags&ZoneLocked != 0 }

// ByCMK reports whether data keys of the zone's files are wrapped by its CMK itself.
func (z *Zone) ByCMK() bool { return z.Flags&ZoneCMK != 0 }

// HasPolicy reports whether the zone has a policy.
func (z *Zone) HasPolicy() bool { return z.PolicyHash != [sha256.Size]byte{} }

// NewZone returns the row of a new zone with a fresh names key. Wraps are the caller's to fill in; zoneKey stays the caller's.
func NewZone(volume VolumeID, id ZoneID, dir Ino, zoneKey *blockcrypt.Key) (*Zone, error) {
	z := &Zone{ID: id, Dir: dir, Params: DefaultParams(), KeyVersion: 1, KeyMade: time.Now().UnixNano()}
	z.Commitment = blockcrypt.ZoneCommitment(zoneKey, volume, uint64(id))
	wrap, err := z.wrapSealer(volume, zoneKey)
	if err != nil {
		return nil, err
	}
	names, err := blockcrypt.NewKey()
	if err != nil {
		return nil, err
	}
	defer names.Wipe()
	z.Names, err = wrap.Wrap(names, blockcrypt.NamesKeyAAD(volume, uint64(id)))
	if err != nil {
		return nil, fmt.Errorf("wrap names key of zone %d: %w", id, err)
	}
	return z, nil
}

// Keys verifies the commitment and expands the keys of the zone. zoneKey stays the caller's and may be wiped at once. Valid is nil in
// the result. ErrAuth if zoneKey is not this zone's, or the names key does not open.
func (z *Zone) Keys(volume VolumeID, zoneKey *blockcrypt.Key) (*ZoneKeys, error) {
	if !equalConstantTime(z.Commitment, blockcrypt.ZoneCommitment(zoneKey, volume, uint64(z.ID))) {
		return nil, fmt.Errorf("zone %d: key is not the one committed to: %w", z.ID, ErrAuth)
	}
	wrap, err := z.wrapSealer(volume, zoneKey)
	if err != nil {
		return nil, err
	}
	names, err := wrap.Unwrap(z.Names[:], blockcrypt.NamesKeyAAD(volume, uint64(z.ID)))
	if err != nil {
		return nil, fmt.Errorf("unwrap names key of zone %d: %w", z.ID, authError(err))
	}
	defer names.Wipe()
	seal, err := blockcrypt.NamesSealKey(names, volume, uint64(z.ID))
	if err != nil {
		return nil, err
	}
	defer seal.Wipe()
	hash, err := blockcrypt.NamesHashKey(names, volume, uint64(z.ID))
	if err != nil {
		return nil, err
	}
	defer hash.Wipe()
	sealer, err := blockcrypt.NewSealer(seal)
	if err != nil {
		return nil, err
	}
	return &ZoneKeys{Wrap: wrap, Version: z.KeyVersion, Names: sealer, Hash: blockcrypt.NewNameHasher(hash)}, nil
}

// FormerSealer verifies the commitment of the zone's former key and expands it, for ZoneKeys.Former. key stays the caller's. ErrAuth if it is not that key;
// ErrInvalid if the zone has none.
func (z *Zone) FormerSealer(volume VolumeID, key *blockcrypt.Key) (*blockcrypt.Sealer, error) {
	if z.Former == nil {
		return nil, fmt.Errorf("zone %d has no former key: %w", z.ID, ErrInvalid)
	}
	if !equalConstantTime(z.Former.Commitment, blockcrypt.ZoneCommitment(key, volume, uint64(z.ID))) {
		return nil, fmt.Errorf("zone %d: former key is not the one committed to: %w", z.ID, ErrAuth)
	}
	return z.wrapSealer(volume, key)
}

func (z *Zone) wrapSealer(volume VolumeID, zoneKey *blockcrypt.Key) (*blockcrypt.Sealer, error) {
	k, err := blockcrypt.ZoneWrapKey(zoneKey, volume, uint64(z.ID))
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return blockcrypt.NewSealer(k)
}

// ZoneContext returns the encryption context that wraps of a zone key are made with. parent is the directory that holds the zone's
// directory (0 for the root), name its name there ("/" for the root).
func ZoneContext(volume VolumeID, id ZoneID, parent Ino, name string) map[string]string {
	return map[string]string{
		"kmsfs:volume": volume.String(),
		"kmsfs:zone":   strconv.FormatUint(uint64(id), 10),
		"kmsfs:dir":    strconv.FormatUint(uint64(parent), 10),
		"kmsfs:name":   name,
	}
}

// Zone reads the row of a zone. ErrNotFound if there is none.
func (s *Store) Zone(ctx context.Context, id ZoneID) (*Zone, error) {
	return readZone(ctx, s.kv, s.rows, id)
}

// ReadZone reads the row of a zone without a Store: what a Keyring uses that is built before the Store. rowsKey is not kept.
func ReadZone(ctx context.Context, store kv.Store, volume VolumeID, rowsKey *blockcrypt.Key, id ZoneID) (*Zone, error) {
	rows, err := newRowSealer(volume, rowsKey)
	if err != nil {
		return nil, err
	}
	return readZone(ctx, store, rows, id)
}

func readZone(ctx context.Context, store kv.Store, rows *rowSealer, id ZoneID) (*Zone, error) {
	var z *Zone
	err := store.View(ctx, func(r kv.Reader) error {
		key := zoneKey(id)
		vals, err := r.Get(ctx, key)
		if err != nil {
			return err
		}
		if vals[0] == nil {
			return ErrNotFound
		}
		z, err = openZone(rows, key, vals[0])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read zone %d: %w", id, err)
	}
	return z, nil
}

// PutZone replaces or adds the row of a zone. ErrInvalid for a row outside the limits.
func (s *Store) PutZone(ctx context.Context, z *Zone) (kv.Rev, error) {
	if err := z.check(); err != nil {
		return 0, fmt.Errorf("put zone %d: %w: %w", z.ID, ErrInvalid, err)
	}
	key := zoneKey(z.ID)
	sealed, err := s.rows.seal(key, encodeZone(z))
	if err != nil {
		return 0, err
	}
	defer s.params.drop(z.ID)
	return s.Update(ctx, func(tx *Tx) error {
		tx.w.Put(key, append([]byte(nil), sealed...))
		return nil
	})
}

// Zones calls fn with every zone in ascending order of id until fn returns false.
func (s *Store) Zones(ctx context.Context, fn func(*Zone) bool) error {
	var failed error
	err := s.kv.View(ctx, func(r kv.Reader) error {
		return r.Scan(ctx, []byte{kindZone}, []byte{kindZone + 1}, 0, func(k, v []byte) bool {
			z, err := openZone(s.rows, k, v)
			if err != nil {
				failed = err
				return false
			}
			return fn(z)
		})
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("scan zones: %w", err)
	}
	return nil
}

func openZone(rows *rowSealer, key, sealed []byte) (*Zone, error) {
	id, ok := parseIno(kindZone, key)
	if !ok {
		return nil, fmt.Errorf("zone key: %w", ErrCorrupt)
	}
	plain, err := rows.open(key, sealed)
	if err != nil {
		return nil, err
	}
	z, err := decodeZone(plain)
	if err != nil {
		return nil, err
	}
	if z.ID != ZoneID(id) {
		return nil, fmt.Errorf("zone row names zone %d: %w", z.ID, ErrCorrupt)
	}
	return z, nil
}
