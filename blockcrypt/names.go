package blockcrypt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// Kinds of names, so that equal names of different kinds have different tags.
const (
	NameDentry byte = 1 // a name in a directory
	NameXattr  byte = 2 // the name of an extended attribute
)

// NameHasher makes the keyed tags under which names are stored. It is safe for
// concurrent use, and holds key material until it is collected.
type NameHasher struct {
	pool sync.Pool // of *nameState
}

type nameState struct {
	mac hash.Hash
	buf [sha256.Size]byte
}

// NewNameHasher copies k into its state; the caller may wipe it at once.
func NewNameHasher(k *Key) *NameHasher {
	// The keyed hashes are made from a copy that lives as long as the hasher.
	key := *k
	h := &NameHasher{}
	h.pool.New = func() any { return &nameState{mac: hmac.New(sha256.New, key[:])} }
	return h
}

// Tag returns the tag of a name below an inode: its directory, or the owner of
// the attribute. It is the first half of
//
//	HMAC-SHA256(key, kind u8 || parent u64 || name)
//
// name may be empty and is only read.
func (h *NameHasher) Tag(kind byte, parent uint64, name []byte) (tag [16]byte) {
	s := h.pool.Get().(*nameState)
	defer h.pool.Put(s)
	s.mac.Reset()
	s.buf[0] = kind
	binary.BigEndian.PutUint64(s.buf[1:], parent)
	s.mac.Write(s.buf[:9])
	s.mac.Write(name)
	copy(tag[:], s.mac.Sum(s.buf[:0]))
	return tag
}
