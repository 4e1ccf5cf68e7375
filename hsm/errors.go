package hsm

import (
	"errors"
	"fmt"
)

// The errors of all tokens. Implementations wrap them with what was tried and
// what to do next; test with errors.Is.
var (
	// ErrAuth: the ciphertext is not authentic under this key and AAD. The
	// token is in order; trying again is useless.
	ErrAuth = errors.New("not authentic under this key and context")
	// ErrKeyNotFound: the token is there, the key is not.
	ErrKeyNotFound = errors.New("no such key in the token")
	// ErrKeyMismatch: there is a key of this id, but it is not the one that was
	// there before (another check value). It is an ErrKeyNotFound.
	ErrKeyMismatch = fmt.Errorf("another key under the same id (%w)", ErrKeyNotFound)
	// ErrExists: there already is a key of this id, or a token in this place.
	ErrExists = errors.New("exists already")
	// ErrTokenAway: the token cannot be reached at the moment. Retryable.
	ErrTokenAway = errors.New("the token is away")
	// ErrTimeout: the token did not answer in time. It is an ErrTokenAway.
	ErrTimeout = fmt.Errorf("no answer in time (%w)", ErrTokenAway)
	// ErrPIN: the PIN, passphrase or key file is not the right one, or was
	// refused unread. Not tried again by itself: tokens lock after a few.
	ErrPIN = errors.New("wrong PIN or passphrase")
	// ErrLocked: the token has locked its PIN and needs its administrator.
	ErrLocked = errors.New("the token's PIN is locked")
	// ErrModule: the PKCS#11 module cannot be used: no such file, not a
	// module, not built in, or in use by somebody else in this process.
	ErrModule = errors.New("the PKCS#11 module cannot be used")
	// ErrUnfit: the token works, but not as safely as kmsfs needs it to.
	ErrUnfit = errors.New("the token is unfit")
	// ErrDamaged: what lies in a soft token's directory is not what was put
	// there.
	ErrDamaged = errors.New("the token is damaged")
	// ErrRefused: the key is there and may not be used now: disabled or forbidden by
	// who keeps it.
	ErrRefused = errors.New("the use of the key is refused where it is kept")
	// ErrClosed: the Token was closed.
	ErrClosed = errors.New("the token is closed")
	// ErrSize: a plaintext, AAD or label is empty or longer than the limit.
	ErrSize = errors.New("size out of range")
	// ErrKeyID: a text is not a key id.
	ErrKeyID = errors.New("not a key id")
)
