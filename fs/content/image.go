package content

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// An image row is all that settling it needs:
//
//	object serial u64 || log2(block size) u8 || ciphertext

// newImage returns an image row with room for n bytes of ciphertext, which is the second result. The first has capacity for a tag behind it.
func newImage(serial uint64, blockSize, n int) (image, ciphertext []byte) {
	image = blockcrypt.NewBuffer(meta.ImageHeader + n)
	binary.BigEndian.PutUint64(image, serial)
	image[8] = byte(bits.TrailingZeros(uint(blockSize)))
	return image, image[meta.ImageHeader:]
}

// parseImage takes an image row apart. The ciphertext is part of it.
func parseImage(image []byte) (serial uint64, blockSize int, ciphertext []byte, err error) {
	if len(image) <= meta.ImageHeader || image[8] > 20 {
		return 0, 0, nil, fmt.Errorf("image of %d bytes: %w", len(image), meta.ErrCorrupt)
	}
	blockSize = 1 << image[8]
	if err := blockcrypt.ValidBlockSize(blockSize); err != nil {
		return 0, 0, nil, fmt.Errorf("image: %w: %w", meta.ErrCorrupt, err)
	}
	ciphertext = image[meta.ImageHeader:]
	if len(ciphertext) > blockSize {
		return 0, 0, nil, fmt.Errorf("image of %d bytes, block size %d: %w", len(ciphertext), blockSize, meta.ErrCorrupt)
	}
	return binary.BigEndian.Uint64(image), blockSize, ciphertext, nil
}

// imageOf returns the ciphertext of an image that must be the one that entry describes, in a plane of the file.
func imageOf(p meta.Plane, image []byte, entry *meta.Entry) ([]byte, error) {
	serial, blockSize, ciphertext, err := parseImage(image)
	if err != nil {
		return nil, err
	}
	if serial != p.Serial || blockSize != p.BlockSize || len(ciphertext) != int(entry.StoredLen) {
		return nil, fmt.Errorf("image of object %d, %d bytes; entry has object %d, %d bytes: %w",
			serial, len(ciphertext), p.Serial, entry.StoredLen, meta.ErrCorrupt)
	}
	return ciphertext, nil
}
