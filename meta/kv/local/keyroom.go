package local

import (
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
)

// keyRoom holds the raw keys of an open store outside the Go heap: not swapped, not dumped, wiped at the end. Nobody may use one after close.
type keyRoom struct {
	buf  *locked.Buffer
	used int
}

// keyRoomSize is how many keys fit.
const keyRoomSize = 4

func newKeyRoom() (*keyRoom, error) {
	buf, err := locked.New(keyRoomSize * blockcrypt.KeySize)
	if err != nil {
		return nil, fmt.Errorf("memory for the journal's keys: %w", err)
	}
	return &keyRoom{buf: buf}, nil
}

// keep returns a copy of k that lies here. k stays the caller's.
func (r *keyRoom) keep(k *blockcrypt.Key) *blockcrypt.Key {
	at := r.used * blockcrypt.KeySize
	kept := (*blockcrypt.Key)(r.buf.Bytes()[at : at+blockcrypt.KeySize])
	*kept = *k
	r.used++
	return kept
}

// move is keep, and wipes k.
func (r *keyRoom) move(k *blockcrypt.Key) *blockcrypt.Key {
	defer k.Wipe()
	return r.keep(k)
}

// close wipes the keys. It may be called more than once.
func (r *keyRoom) close() { r.buf.Close() }
