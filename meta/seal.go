package meta

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// rowSealer seals structure rows under the volume's rows key.
type rowSealer struct {
	volume VolumeID
	sealer *blockcrypt.Sealer
}

func newRowSealer(volume VolumeID, rowsKey *blockcrypt.Key) (*rowSealer, error) {
	sealer, err := blockcrypt.NewSealer(rowsKey)
	if err != nil {
		return nil, err
	}
	return &rowSealer{volume: volume, sealer: sealer}, nil
}

func (r *rowSealer) seal(key, plain []byte) ([]byte, error) {
	return sealRow(r.sealer, r.volume, key, plain)
}

func (r *rowSealer) open(key, sealed []byte) ([]byte, error) {
	return openRow(r.sealer, r.volume, key, sealed)
}

// sealRow seals a row's plaintext for its key.
func sealRow(sealer *blockcrypt.Sealer, volume VolumeID, key, plain []byte) ([]byte, error) {
	return sealer.Seal(make([]byte, 0, len(plain)+blockcrypt.SealOverhead), plain, blockcrypt.RowAAD(volume, key))
}

// openRow opens a row in its place. ErrAuth.
func openRow(sealer *blockcrypt.Sealer, volume VolumeID, key, sealed []byte) ([]byte, error) {
	plain, err := sealer.Open(nil, sealed, blockcrypt.RowAAD(volume, key))
	if err != nil {
		return nil, fmt.Errorf("row %x: %w", key, authError(err))
	}
	return plain, nil
}

// authError turns what blockcrypt says of a sealed value that does not open, or is too short to be one, into ErrAuth.
func authError(err error) error {
	if errors.Is(err, blockcrypt.ErrAuth) || errors.Is(err, blockcrypt.ErrFormat) {
		return fmt.Errorf("%w (%w)", ErrAuth, err)
	}
	return err
}

func equalConstantTime(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// stamp identifies a sealed value: its random nonce and its tag.
type stamp [blockcrypt.SealOverhead]byte

// stampOf returns the stamp of a sealed value; of one that is too short, a stamp that no entry has.
func stampOf(sealed []byte) (s stamp) {
	if len(sealed) < blockcrypt.SealOverhead {
		return s
	}
	copy(s[:], sealed[:blockcrypt.SealNonceSize])
	copy(s[blockcrypt.SealNonceSize:], sealed[len(sealed)-blockcrypt.TagSize:])
	return s
}
