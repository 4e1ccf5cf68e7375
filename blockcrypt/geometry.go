package blockcrypt

import (
	"fmt"
	"math/bits"
)

const (
	// FormatVersion is the version of the on-disk format. It is part of the
	// associated data of every block, row and wrap.
	FormatVersion = 1

	// NonceSize is the length of a block's nonce, in bytes.
	NonceSize = 12
	// TagSize is the length of an authentication tag, in bytes.
	TagSize = 16

	// MinBlockSize is the smallest block size, in bytes of plaintext.
	MinBlockSize = 4 << 10
	// MaxBlockSize is the largest block size, in bytes of plaintext.
	MaxBlockSize = 1 << 20

	// MaxFileSize is the largest size of a file in bytes: the largest off_t.
	// Every offset and every slot offset below it fits an int64.
	MaxFileSize uint64 = 1<<63 - 1
)

// ValidBlockSize returns ErrSize unless blockSize is a power of two from
// MinBlockSize to MaxBlockSize.
func ValidBlockSize(blockSize int) error {
	if blockSize < MinBlockSize || blockSize > MaxBlockSize || blockSize&(blockSize-1) != 0 {
		return fmt.Errorf("block size %d: %w", blockSize, ErrSize)
	}
	return nil
}

// The functions below are plain arithmetic. blockSize must be valid
// (ValidBlockSize), offsets and sizes at most MaxFileSize.

// BlockOf returns the index of the block that holds plaintext offset off.
func BlockOf(off uint64, blockSize int) uint64 {
	return off >> log2(blockSize)
}

// OffsetInBlock returns the distance in bytes of off from the start of its
// block.
func OffsetInBlock(off uint64, blockSize int) int {
	return int(off & uint64(blockSize-1))
}

// BlockRange returns the half-open range [first, end) of the blocks that hold
// the n plaintext bytes at off. It is empty (first == end) if n <= 0.
func BlockRange(off uint64, n, blockSize int) (first, end uint64) {
	first = BlockOf(off, blockSize)
	if n <= 0 {
		return first, first
	}
	return first, BlockOf(off+uint64(n)-1, blockSize) + 1
}

// BlockCount returns the number of blocks of a file of size bytes.
func BlockCount(size uint64, blockSize int) uint64 {
	if size == 0 {
		return 0
	}
	return BlockOf(size-1, blockSize) + 1
}

// BlockStart returns the plaintext offset of the first byte of a block.
func BlockStart(index uint64, blockSize int) uint64 {
	return index << log2(blockSize)
}

// BlockLen returns how many bytes of a file of size bytes lie in block index:
// blockSize for all but the last, 0 beyond it.
func BlockLen(index, size uint64, blockSize int) int {
	switch count := BlockCount(size, blockSize); {
	case index+1 < count:
		return blockSize
	case index+1 == count:
		return LastBlockLen(size, blockSize)
	default:
		return 0
	}
}

// LastBlockLen returns the length in bytes of the last block of a file of size
// bytes: 1 to blockSize, or 0 for an empty file.
func LastBlockLen(size uint64, blockSize int) int {
	if size == 0 {
		return 0
	}
	return OffsetInBlock(size-1, blockSize) + 1
}

// SlotOff returns the byte offset in the object of the slot of block index.
// Slots are linear: as long as a block and in the order of the blocks. A slot
// holds ciphertext only, so slot offset and plaintext offset are equal.
func SlotOff(index uint64, blockSize int) int64 {
	return int64(index << log2(blockSize))
}

// log2 is exact for powers of two.
func log2(blockSize int) uint {
	return uint(bits.TrailingZeros(uint(blockSize)))
}
