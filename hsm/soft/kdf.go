package soft

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

// method is how a token is unlocked.
type method uint8

const (
	methodAny        method = 0 // of an Unlocker only
	methodPassphrase method = 1
	methodKeyFile    method = 2
)

func (m method) String() string {
	switch m {
	case methodPassphrase:
		return "passphrase"
	case methodKeyFile:
		return "key file"
	}
	return "credential"
}

// Cost of a passphrase: the second recommended choice of RFC 9106 for what is
// written, and the bounds for what is accepted. The lower bounds keep a changed
// token.json from asking for a cheap derivation, the upper ones from exhausting
// the machine.
const (
	argonMemory, argonMinMemory, argonMaxMemory = 64 << 10, 64 << 10, 2 << 20 // KiB
	argonPasses, argonMinPasses, argonMaxPasses = 3, 3, 64
	argonLanes, argonMaxLanes                   = 4, 64

	saltSize  = 16
	checkSize = 8
)

// unlockParams are the public parameters that turn a secret into the key that
// seals the root key.
type unlockParams struct {
	Method method
	Salt   [saltSize]byte
	Memory uint32 // KiB; Memory, Passes and Lanes are zero for a key file
	Passes uint32
	Lanes  uint8
}

// newParams chooses parameters for a new secret.
func newParams(m method) unlockParams {
	p := unlockParams{Method: m}
	rand.Read(p.Salt[:]) // never fails
	if m == methodPassphrase {
		p.Memory, p.Passes, p.Lanes = argonMemory, argonPasses, argonLanes
	}
	return p
}

// check refuses parameters out of bounds.
func (p unlockParams) check() error {
	switch p.Method {
	case methodKeyFile:
		if p.Memory|p.Passes != 0 || p.Lanes != 0 {
			return fmt.Errorf("%w: costs given for a key file", hsm.ErrDamaged)
		}
		return nil
	case methodPassphrase:
	default:
		return fmt.Errorf("%w: unknown way to unlock", hsm.ErrDamaged)
	}
	if p.Memory < argonMinMemory || p.Memory > argonMaxMemory || p.Passes < argonMinPasses ||
		p.Passes > argonMaxPasses || p.Lanes < 1 || p.Lanes > argonMaxLanes {
		return fmt.Errorf("%w: Argon2id with %d KiB, %d passes, %d lanes is outside %d..%d KiB, %d..%d passes, 1..%d lanes",
			hsm.ErrDamaged, p.Memory, p.Passes, p.Lanes, argonMinMemory, argonMaxMemory, argonMinPasses, argonMaxPasses, argonMaxLanes)
	}
	return nil
}

// derived is what a secret gives under unlockParams.
type derived struct {
	key   *locked.Buffer  // seals the root key
	check [checkSize]byte // tells a wrong secret from a damaged token
}

// derive computes the key from the secret. A passphrase takes some tenths of a
// second and p.Memory of memory, which holds derivatives of the passphrase until
// it is collected; the heap copies that can be wiped are.
func (p unlockParams) derive(secret []byte) (derived, error) {
	var prk []byte
	var err error
	if p.Method == methodPassphrase {
		prk = argon2.IDKey(secret, p.Salt[:], p.Passes, p.Memory, p.Lanes, sha512.Size)
	} else if prk, err = hkdf.Extract(sha512.New, secret, p.Salt[:]); err != nil {
		return derived{}, err
	}
	defer clear(prk)
	out, err := hkdf.Expand(sha512.New, prk, "kmsfs soft token unlock v1", keySize+checkSize)
	if err != nil {
		return derived{}, err
	}
	var d derived
	copy(d.check[:], out[keySize:])
	d.key, err = locked.FromBytes(out[:keySize])
	return d, err
}
