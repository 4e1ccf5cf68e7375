package keystore

import (
	"errors"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/meta/kv"
)

var (
	// ErrNone: there is no key store in the directory.
	ErrNone = errors.New("no key store")
	// ErrExists: there is one already, or something else.
	ErrExists = errors.New("there is a key store already")
	// ErrInUse: another process has the key store open.
	ErrInUse = errors.New("the key store is in use by another process")
	// ErrUnsafe: others can write to the directory or the configuration, or it belongs to somebody else.
	ErrUnsafe = errors.New("the key store is not safe from others")
	// ErrDamaged: the configuration is not what was written.
	ErrDamaged = errors.New("the key store is damaged")
	// ErrVersion: the key store was made by a newer kmsfs.
	ErrVersion = errors.New("unknown version of key store")
	// ErrNoSecret: the key store does not open by itself: it wants a secret from somebody.
	ErrNoSecret = errors.New("the key store needs its secret")
)

// Changed tells errors that say that the key store is not as it was left from all others.
func Changed(err error) bool {
	for _, sentinel := range []error{ErrDamaged, kv.ErrCorrupt, kv.ErrRollback, keymgr.ErrRollback, trail.ErrDamaged} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}
