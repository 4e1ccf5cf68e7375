package superblock

import "errors"

var (
	// ErrMissing: there is no kmsfs.json; the directory is no volume, or lost it.
	ErrMissing = errors.New("no kmsfs.json")
	// ErrDamaged: the file does not parse, or has a field out of range.
	ErrDamaged = errors.New("kmsfs.json is damaged")
	// ErrVersion: the format version is not this program's.
	ErrVersion = errors.New("unknown format version")
	// ErrFeature: the volume uses a feature that this program does not know.
	ErrFeature = errors.New("unknown feature flag")
	// ErrAuth: the file was not made, or not last changed, by who has the volume key.
	ErrAuth = errors.New("kmsfs.json is not authentic")
)
