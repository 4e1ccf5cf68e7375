package superblock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

const (
	// Version is the format version that this package reads and writes.
	Version = blockcrypt.FormatVersion
	// MaxWraps is how many wraps the volume key may have; any one opens.
	MaxWraps = 5

	maxBlob     = 8 << 10
	maxFeatures = 32
	maxFeature  = 64
	macLabel    = "kmsfs superblock"
	sealedSize  = 3*blockcrypt.KeySize + blockcrypt.SealOverhead
)

// known holds the feature flags that this program implements; any other is refused. Version 1 has none.
var known = map[string]bool{}

// Superblock is the content of kmsfs.json.
type Superblock struct {
	Volume     blockcrypt.VolumeID
	Created    time.Time // UTC, whole seconds
	Revision   uint32    // counts the versions of this superblock, from 1
	Features   []string  // ascending, without duplicates
	Wraps      [][]byte  // 1 to MaxWraps ciphertext blobs of the key manager, each of the volume key
	Commitment [blockcrypt.CommitmentSize]byte
	Sealed     []byte // the Secrets, under the volume's seal key
	MAC        [sha256.Size]byte
}

// Secrets are the keys that only the superblock holds. Wipe them after use.
type Secrets struct {
	Rows    *blockcrypt.Key // seals the rows of the volume's structure
	Objects *blockcrypt.Key // makes object ids
	Journal *blockcrypt.Key // authenticates the journal
}

// Wipe overwrites the keys.
func (s *Secrets) Wipe() {
	s.Rows.Wipe()
	s.Objects.Wipe()
	s.Journal.Wipe()
}

// New makes the superblock of a new volume with fresh secrets, authenticated by the volume key. wraps are blobs of that key. The caller wipes the key.
func New(volume blockcrypt.VolumeID, volumeKey *blockcrypt.Key, wraps [][]byte, created time.Time) (*Superblock, error) {
	s := &Superblock{Volume: volume, Created: created.UTC().Truncate(time.Second), Revision: 1, Wraps: wraps}
	s.Commitment = blockcrypt.VolumeCommitment(volumeKey, volume)
	sealer, err := sealer(volumeKey, volume)
	if err != nil {
		return nil, fmt.Errorf("make superblock: %w", err)
	}
	bundle := make([]byte, 0, 3*blockcrypt.KeySize)
	defer func() { clear(bundle[:cap(bundle)]) }()
	for range 3 {
		k, err := blockcrypt.NewKey()
		if err != nil {
			return nil, fmt.Errorf("make superblock: %w", err)
		}
		bundle = append(bundle, k[:]...)
		k.Wipe()
	}
	if s.Sealed, err = sealer.Seal(nil, bundle, s.secretsAAD()); err != nil {
		return nil, fmt.Errorf("make superblock: %w", err)
	}
	return s, s.Authenticate(volumeKey)
}

// WithWraps returns the next revision of the superblock, with other wraps of the same volume key, authenticated by it. ErrDamaged if a wrap is out of range.
func (s *Superblock) WithWraps(volumeKey *blockcrypt.Key, wraps [][]byte) (*Superblock, error) {
	next := *s
	next.Wraps = wraps
	next.Revision++
	return &next, next.Authenticate(volumeKey)
}

// Follows reports whether s claims to be a later revision of the same superblock as old. Whether that is so is for Open to say.
func (s *Superblock) Follows(old *Superblock) bool {
	return s.Volume == old.Volume && s.Commitment == old.Commitment && s.Revision > old.Revision
}

// Authenticate writes the MAC anew after a change of the fields. It is ErrDamaged if a field is out of range.
func (s *Superblock) Authenticate(volumeKey *blockcrypt.Key) error {
	if err := s.validate(); err != nil {
		return err
	}
	mac, err := s.mac(volumeKey)
	if err != nil {
		return err
	}
	s.MAC = mac
	return nil
}

// Open verifies the superblock under the volume key (its commitment, then the MAC over every field) and returns the secrets. ErrAuth if it fails.
func (s *Superblock) Open(volumeKey *blockcrypt.Key) (*Secrets, error) {
	want := blockcrypt.VolumeCommitment(volumeKey, s.Volume)
	if !hmac.Equal(want[:], s.Commitment[:]) {
		return nil, fmt.Errorf("%w: the volume key is not the one it was made with", ErrAuth)
	}
	mac, err := s.mac(volumeKey)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac[:], s.MAC[:]) {
		return nil, fmt.Errorf("%w: it was changed", ErrAuth)
	}
	sealer, err := sealer(volumeKey, s.Volume)
	if err != nil {
		return nil, err
	}
	bundle, err := sealer.Open(nil, s.Sealed, s.secretsAAD())
	if err != nil {
		return nil, fmt.Errorf("%w: its secrets do not open", ErrAuth)
	}
	defer clear(bundle)
	return splitSecrets(bundle)
}

func splitSecrets(bundle []byte) (*Secrets, error) {
	var keys [3]*blockcrypt.Key
	if len(bundle) != len(keys)*blockcrypt.KeySize {
		return nil, fmt.Errorf("%w: secrets of %d bytes", ErrDamaged, len(bundle))
	}
	for i := range keys {
		k, err := blockcrypt.KeyFromBytes(bundle[i*blockcrypt.KeySize : (i+1)*blockcrypt.KeySize])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		keys[i] = k
	}
	return &Secrets{Rows: keys[0], Objects: keys[1], Journal: keys[2]}, nil
}

// secretsAAD binds the sealed secrets to their purpose and volume: "kmsfs secrets" || version u8 || volume x[16].
func (s *Superblock) secretsAAD() []byte {
	return append(append([]byte("kmsfs secrets"), Version), s.Volume[:]...)
}

func sealer(volumeKey *blockcrypt.Key, volume blockcrypt.VolumeID) (*blockcrypt.Sealer, error) {
	k, err := blockcrypt.VolumeSealKey(volumeKey, volume)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return blockcrypt.NewSealer(k)
}

func (s *Superblock) mac(volumeKey *blockcrypt.Key) (out [sha256.Size]byte, err error) {
	k, err := blockcrypt.SuperblockMACKey(volumeKey, s.Volume)
	if err != nil {
		return out, fmt.Errorf("authenticate superblock: %w", err)
	}
	defer k.Wipe()
	h := hmac.New(sha256.New, k[:])
	h.Write(s.canonical())
	h.Sum(out[:0])
	return out, nil
}

// canonical is what the MAC covers, every field but the MAC itself:
//
//	"kmsfs superblock" || version u8 || volume x[16] || created u64 (Unix seconds) || revision u32
//	|| count u16 || count times (len u16 || feature)
//	|| count u16 || count times (len u16 || wrap)
//	|| commitment x[32] || len u16 || sealed secrets
func (s *Superblock) canonical() []byte {
	b := append([]byte(macLabel), Version)
	b = append(b, s.Volume[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Created.Unix()))
	b = binary.BigEndian.AppendUint32(b, s.Revision)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Features)))
	for _, f := range s.Features {
		b = appendCounted(b, []byte(f))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Wraps)))
	for _, w := range s.Wraps {
		b = appendCounted(b, w)
	}
	b = append(b, s.Commitment[:]...)
	return appendCounted(b, s.Sealed)
}

func appendCounted(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}

// validate checks every field's range; errors are ErrDamaged, or ErrFeature for a flag this program does not know.
func (s *Superblock) validate() error {
	switch {
	case s.Volume.IsZero():
		return fmt.Errorf("%w: no volume id", ErrDamaged)
	case s.Created.Unix() < 0 || s.Created.Nanosecond() != 0:
		return fmt.Errorf("%w: time of creation", ErrDamaged)
	case s.Revision == 0:
		return fmt.Errorf("%w: revision 0", ErrDamaged)
	case len(s.Wraps) < 1 || len(s.Wraps) > MaxWraps:
		return fmt.Errorf("%w: %d wraps of the volume key", ErrDamaged, len(s.Wraps))
	case len(s.Sealed) != sealedSize:
		return fmt.Errorf("%w: sealed secrets of %d bytes", ErrDamaged, len(s.Sealed))
	}
	for i, w := range s.Wraps {
		if len(w) < 1 || len(w) > maxBlob {
			return fmt.Errorf("%w: wrap %d of the volume key has %d bytes", ErrDamaged, i, len(w))
		}
	}
	return validateFeatures(s.Features)
}

func validateFeatures(features []string) error {
	if len(features) > maxFeatures || !slices.IsSorted(features) || len(slices.Compact(slices.Clone(features))) != len(features) {
		return fmt.Errorf("%w: list of features", ErrDamaged)
	}
	var unknown []error
	for _, f := range features {
		if f == "" || len(f) > maxFeature {
			return fmt.Errorf("%w: list of features", ErrDamaged)
		}
		if !known[f] {
			unknown = append(unknown, fmt.Errorf("%w %q", ErrFeature, f))
		}
	}
	return errors.Join(unknown...)
}
