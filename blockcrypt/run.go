package blockcrypt

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"sync/atomic"
)

const (
	// halfNonce is the part of a nonce that the message key is derived from, in
	// bytes. The other part is the nonce under that key.
	halfNonce = 12

	// runMessages is how many messages share a first half at most: two of as
	// many random second halves are equal with a probability of 2^-65.
	runMessages = 1 << 16

	// openedRuns is how many runs of others' messages a Sealer remembers.
	openedRuns = 16
)

// derived is the message key of all nonces that begin with half.
type derived struct {
	half [halfNonce]byte
	aead cipher.AEAD
}

// run is a stretch of messages that are sealed with one message key.
type run struct {
	*derived
	begun atomic.Uint32 // messages
}

// current returns the message key for one more message.
func (s *Sealer) current() (*derived, error) {
	if r := s.sealing.Load(); r != nil && r.begun.Add(1) <= runMessages {
		return r.derived, nil
	}
	var half [halfNonce]byte
	if _, err := rand.Read(half[:]); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	d, err := s.subkey(half[:])
	if err != nil {
		return nil, err
	}
	r := &run{derived: d}
	r.begun.Store(1)
	s.sealing.Store(r) // who comes here at the same time has one of its own
	s.slot(d.half[:]).Store(d)
	return d, nil
}

// known returns the message key of a sealed message, which it remembers.
func (s *Sealer) known(sealed []byte) (*derived, error) {
	slot := s.slot(sealed)
	if d := slot.Load(); d != nil && d.half == [halfNonce]byte(sealed) {
		return d, nil
	}
	d, err := s.subkey(sealed)
	if err != nil {
		return nil, err
	}
	slot.Store(d)
	return d, nil
}

func (s *Sealer) slot(nonce []byte) *atomic.Pointer[derived] {
	return &s.opened[nonce[0]%openedRuns]
}
