package meta

import (
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Structure opens single rows of structure, inodes and block maps, outside of a Store: for backups, which see rows go by. It needs no zone keys. It is
// safe for concurrent use.
type Structure struct{ rows *rowSealer }

// NewStructure returns the Structure of a volume. rowsKey is not kept.
func NewStructure(volume VolumeID, rowsKey *blockcrypt.Key) (*Structure, error) {
	rows, err := newRowSealer(volume, rowsKey)
	if err != nil {
		return nil, fmt.Errorf("prepare to read structure: %w", err)
	}
	return &Structure{rows: rows}, nil
}

// InodeKey returns the key of an inode's row.
func InodeKey(ino Ino) []byte { return attrKey(ino) }

// ParseInodeKey parses the key of an inode's row; ok is false for any other key.
func ParseInodeKey(key []byte) (ino Ino, ok bool) { return parseIno(kindAttr, key) }

// ParseMapKey parses the key of a map row; ok is false for any other key.
func ParseMapKey(key []byte) (ino Ino, row uint64, ok bool) { return parseIno8(kindMap, key) }

// Inode opens the row of an inode, whose key must be one. Errors: ErrAuth, ErrCorrupt.
func (s *Structure) Inode(key, sealed []byte) (*Attr, error) {
	ino, ok := ParseInodeKey(key)
	if !ok {
		return nil, fmt.Errorf("inode key: %w", ErrCorrupt)
	}
	plain, err := s.rows.open(key, sealed)
	if err != nil {
		return nil, err
	}
	return decodeAttr(ino, plain)
}

// Map opens a map row. Errors: ErrAuth, ErrCorrupt.
func (s *Structure) Map(key, sealed []byte, m *MapRow) error {
	plain, err := s.rows.open(key, sealed)
	if err != nil {
		return err
	}
	return DecodeMapRow(plain, m)
}
