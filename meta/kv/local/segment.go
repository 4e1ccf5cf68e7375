package local

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// A segment header (docs/FORMAT.md 8.2): the first 512 bytes of a segment, of which 104 are used.
//
//	 0 magic[8] | 8 version u32 | 12 zero u32 | 16 volume[16] | 32 number u64 | 40 generation u64
//	48 salt[16] | 64 first sequence u64 | 72 previous tag[16] | 88 tag[16]
const (
	segmentHeaderSize = 512
	segmentMagic      = "kmsfsjnl"
	segmentVersion    = 1
	segmentCovered    = 88
)

// segmentHeader says which part of the chain a segment holds.
type segmentHeader struct {
	number     uint64
	generation uint64
	salt       [16]byte
	firstSeq   uint64        // of the first record in it
	previous   [TagSize]byte // of the record before that
}

// segment is one use of a segment file: a recycled file is a new segment.
type segment struct {
	segmentHeader
	name string
	file File
	size int64
	aead cipher.AEAD // GMAC under the segment's own key

	// Guarded by journal.mu.
	lastGen uint64 // newest overlay generation with a record in it
	dirty   bool   // on journal.dirty
	flushed bool   // the header is durable
}

// segmentAEAD derives the key of one use of a segment.
func segmentAEAD(key *blockcrypt.Key, volume blockcrypt.VolumeID, h segmentHeader) (cipher.AEAD, error) {
	k, err := blockcrypt.JournalSegmentKey(key, volume, h.salt, h.number)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return gmac(k)
}

// gmac returns the cipher whose tags over no plaintext authenticate segments and exports.
func gmac(k *blockcrypt.Key) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// newSegmentHeader draws the salt of a new use.
func newSegmentHeader(number, generation, firstSeq uint64, previous [TagSize]byte) (segmentHeader, error) {
	h := segmentHeader{number: number, generation: generation, firstSeq: firstSeq, previous: previous}
	if _, err := rand.Read(h.salt[:]); err != nil {
		return h, fmt.Errorf("draw salt: %w", err)
	}
	return h, nil
}

// encode returns the header's bytes, sealed under the segment's key.
func (h segmentHeader) encode(volume blockcrypt.VolumeID, aead cipher.AEAD) []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic)
	binary.BigEndian.PutUint32(b[8:], segmentVersion)
	copy(b[16:], volume[:])
	binary.BigEndian.PutUint64(b[32:], h.number)
	binary.BigEndian.PutUint64(b[40:], h.generation)
	copy(b[48:], h.salt[:])
	binary.BigEndian.PutUint64(b[64:], h.firstSeq)
	copy(b[72:], h.previous[:])
	aead.Seal(b[segmentCovered:segmentCovered], make([]byte, len(nonce{})), nil, b[:segmentCovered])
	return b
}

// errNoSegment: the bytes are not a segment header of this volume, such as those of a segment never used.
var errNoSegment = errors.New("not a segment of this volume")

// parseSegmentHeader reads the shape of a header; openSegmentHeader authenticates it. A version that is
// not known is kv.ErrCorrupt, anything else errNoSegment.
func parseSegmentHeader(b []byte, volume blockcrypt.VolumeID) (h segmentHeader, err error) {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic || blockcrypt.VolumeID(b[16:32]) != volume {
		return h, errNoSegment
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != segmentVersion {
		return h, fmt.Errorf("segment of version %d: %w", v, kv.ErrCorrupt)
	}
	h.number = binary.BigEndian.Uint64(b[32:])
	h.generation = binary.BigEndian.Uint64(b[40:])
	copy(h.salt[:], b[48:])
	h.firstSeq = binary.BigEndian.Uint64(b[64:])
	copy(h.previous[:], b[72:])
	if h.number == 0 || h.firstSeq == 0 || binary.BigEndian.Uint32(b[12:]) != 0 {
		return h, errNoSegment
	}
	return h, nil
}

// openSegmentHeader parses and authenticates a header and returns the segment's cipher with it.
func openSegmentHeader(b []byte, key *blockcrypt.Key, volume blockcrypt.VolumeID) (segmentHeader, cipher.AEAD, error) {
	h, err := parseSegmentHeader(b, volume)
	if err != nil {
		return h, nil, err
	}
	aead, err := segmentAEAD(key, volume, h)
	if err != nil {
		return h, nil, err
	}
	want := aead.Seal(nil, make([]byte, len(nonce{})), nil, b[:segmentCovered])
	if subtle.ConstantTimeCompare(want, b[segmentCovered:segmentCovered+TagSize]) != 1 {
		return h, nil, errNoSegment
	}
	return h, aead, nil
}
