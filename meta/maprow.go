package meta

// MapRowBlocks is the number of blocks that one map row covers.
const MapRowBlocks = 32

// allocUnit is the unit that a slot's ciphertext takes in the lower filesystem.
const allocUnit = 4096

// Entry is the map entry of one block. The zero Entry is a hole.
type Entry struct {
	Present   bool
	CRC       uint32 // CRC-32C of the stored ciphertext
	Epoch     uint32 // key epoch it is sealed under
	PlainLen  uint32 // plaintext bytes in the block, 1..block size; a block reads as zeros beyond it
	StoredLen uint32 // ciphertext bytes in the slot; PlainLen, or less if compressed
	Codec     Codec  // that the plaintext was compressed by
	Nonce     [12]byte
	Tag       [16]byte
}

// Allocated returns the storage that the entry's ciphertext takes: StoredLen rounded up to 4 KiB, 0 for a hole.
func (e *Entry) Allocated() uint64 {
	if !e.Present {
		return 0
	}
	return (uint64(e.StoredLen) + allocUnit - 1) / allocUnit * allocUnit
}

// MapRow holds the entries of blocks row*MapRowBlocks .. row*MapRowBlocks+31 of a file.
type MapRow [MapRowBlocks]Entry

// Empty reports whether all entries are holes.
func (m *MapRow) Empty() bool {
	for i := range m {
		if m[i].Present {
			return false
		}
	}
	return true
}

// RowOf returns the map row that holds block, and the block's index in it.
func RowOf(block uint64) (row uint64, index int) {
	return block / MapRowBlocks, int(block % MapRowBlocks)
}
