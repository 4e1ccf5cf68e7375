package blockcrypt

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// VolumeID is the random identity of a volume. It is public.
type VolumeID [16]byte

// NewVolumeID draws a random volume id.
func NewVolumeID() (VolumeID, error) {
	var v VolumeID
	if _, err := rand.Read(v[:]); err != nil {
		return VolumeID{}, fmt.Errorf("draw volume id: %w", err)
	}
	return v, nil
}

// ParseVolumeID reads the form that String writes: 32 lower-case hexadecimal
// digits, nothing else. Any other text, and the zero id, is ErrFormat.
func ParseVolumeID(s string) (VolumeID, error) {
	b, err := parseHex16(s)
	if err != nil {
		return VolumeID{}, fmt.Errorf("volume id: %w", err)
	}
	v := VolumeID(b)
	if v.IsZero() {
		return VolumeID{}, fmt.Errorf("volume id is zero: %w", ErrFormat)
	}
	return v, nil
}

// String returns the id as 32 lower-case hexadecimal digits.
func (v VolumeID) String() string { return hex.EncodeToString(v[:]) }

// IsZero reports whether the id is unset.
func (v VolumeID) IsZero() bool { return v == VolumeID{} }

// MarshalText returns what String returns.
func (v VolumeID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is ParseVolumeID; on error v is unchanged.
func (v *VolumeID) UnmarshalText(text []byte) error {
	id, err := ParseVolumeID(string(text))
	if err != nil {
		return err
	}
	*v = id
	return nil
}

// parseHex16 reads exactly 32 lower-case hexadecimal digits. One spelling per
// value, so that a name that is found is the name that was written.
func parseHex16(s string) (out [16]byte, err error) {
	if len(s) != 2*len(out) {
		return out, fmt.Errorf("%d characters instead of %d: %w", len(s), 2*len(out), ErrFormat)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return [16]byte{}, fmt.Errorf("character %d is not a lower-case hexadecimal digit: %w", i, ErrFormat)
		}
		out[i/2] = out[i/2]<<4 | c
	}
	return out, nil
}
