package blockcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// ObjectID names an object, the lower file that holds a file's ciphertext. It
// looks random to who has no key.
type ObjectID [16]byte

// String returns the id as 32 lower-case hexadecimal digits: the lower file's
// name.
func (id ObjectID) String() string { return hex.EncodeToString(id[:]) }

// ParseObjectID reads the form that String writes and nothing else. Any other
// text is ErrFormat. It says nothing about whether the id names an inode; see
// ObjectNamer.Parse.
func ParseObjectID(s string) (ObjectID, error) {
	b, err := parseHex16(s)
	if err != nil {
		return ObjectID{}, fmt.Errorf("object id: %w", err)
	}
	return ObjectID(b), nil
}

// ObjectNamer maps inode and serial to object ids and back: one block of
// AES-256 under the objects key,
//
//	id = AES-256(key, inode u64 || serial u64)
//
// It is a permutation: every id maps to some (inode, serial), and only a row
// that names the pair makes the object a live one. Safe for concurrent use.
type ObjectNamer struct {
	block cipher.Block
}

// NewObjectNamer expands k, which is not kept.
func NewObjectNamer(k *Key) (*ObjectNamer, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, fmt.Errorf("expand objects key: %w", err)
	}
	return &ObjectNamer{block: block}, nil
}

// ID returns the id of the object with this serial of an inode.
func (n *ObjectNamer) ID(inode, serial uint64) ObjectID {
	var id ObjectID
	binary.BigEndian.PutUint64(id[:8], inode)
	binary.BigEndian.PutUint64(id[8:], serial)
	n.block.Encrypt(id[:], id[:])
	return id
}

// Parse returns the inode and the serial that ID made id of.
func (n *ObjectNamer) Parse(id ObjectID) (inode, serial uint64) {
	n.block.Decrypt(id[:], id[:])
	return binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
}
