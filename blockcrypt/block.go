package blockcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"hash/crc32"
	"sync"
)

// Suite names the algorithms that a file's blocks are encrypted with.
type Suite uint8

// SuiteAES256GCM is AES-256-GCM with a random 96-bit nonce and a 128-bit tag
// under a key derived by HKDF-SHA512. It is the only suite of version 1.
const SuiteAES256GCM Suite = 1

const (
	// CommitmentSize is the length of a key commitment, in bytes.
	CommitmentSize = 32

	// MaxKeyUses is the number of blocks that may be sealed under one block
	// key. With 2^31 random 96-bit nonces two are equal with probability
	// 2^-35 (2^(2*31-1-96)). The owner of the key counts, and begins a new
	// epoch before.
	MaxKeyUses = 1 << 31

	// MaxInline is the longest content, in bytes, that SealInline takes.
	MaxInline = 64 << 10

	// InlineOverhead is by how many bytes sealed inline content is longer
	// than the content.
	InlineOverhead = NonceSize + TagSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C of b: what Sealed.CRC holds for a ciphertext.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// FileID is what the blocks of a file are bound to.
type FileID struct {
	Volume VolumeID
	Inode  uint64
	Epoch  uint32
}

// Sealed is what proves a block, and all that is needed besides the key to
// open it. It is kept apart from the ciphertext.
type Sealed struct {
	Nonce [NonceSize]byte
	Tag   [TagSize]byte
	CRC   uint32 // CRC-32C of the ciphertext; finds accidents, proves nothing
}

// BlockCipher is the expanded block key of one file and epoch. It is safe for
// concurrent use. It holds key material until it is collected: its owner
// bounds how long it is referenced.
type BlockCipher struct {
	aead       cipher.AEAD
	id         FileID
	blockSize  int
	suite      Suite
	commitment [CommitmentSize]byte
	pool       sync.Pool // of *blockScratch
}

// blockScratch is what one call needs besides its arguments. It is pooled
// because everything passed to a cipher.AEAD escapes to the heap.
type blockScratch struct {
	nonces [64 * NonceSize]byte // a run draws its nonces in batches
	aad    [codedAADSize]byte
	tail   []byte // ciphertext||tag of one block; grown on first use
}

// NewBlockCipher derives the block key and its commitment from a file's data
// key. dek is not kept; the caller may wipe it at once.
//
// Errors: ErrSize (block size), ErrFormat (unknown suite).
func NewBlockCipher(dek *Key, id FileID, blockSize int, suite Suite) (*BlockCipher, error) {
	if err := ValidBlockSize(blockSize); err != nil {
		return nil, err
	}
	if suite != SuiteAES256GCM {
		return nil, fmt.Errorf("block suite %d: %w", suite, ErrFormat)
	}
	key, commitment, err := deriveBlockKey(dek, id, suite)
	if err != nil {
		return nil, fmt.Errorf("derive block key: %w", err)
	}
	defer key.Wipe()
	aead, err := newGCM(key[:])
	if err != nil {
		return nil, err
	}
	c := &BlockCipher{aead: aead, id: id, blockSize: blockSize, suite: suite, commitment: commitment}
	c.pool.New = func() any { return new(blockScratch) }
	return c, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// BlockSize returns the length of a full block in bytes.
func (c *BlockCipher) BlockSize() int { return c.blockSize }

// ID returns what the blocks are bound to.
func (c *BlockCipher) ID() FileID { return c.id }

// Commitment returns the value to store beside the wrapped data key.
func (c *BlockCipher) Commitment() [CommitmentSize]byte { return c.commitment }

// Verify compares the stored commitment with this key's in constant time.
// ErrCommitment if they differ: the data key is not the file's.
func (c *BlockCipher) Verify(commitment [CommitmentSize]byte) error {
	if subtle.ConstantTimeCompare(commitment[:], c.commitment[:]) != 1 {
		return ErrCommitment
	}
	return nil
}

// Seal encrypts plain (1 to BlockSize bytes) as block index into dst, which
// has the same length and does not overlap plain. plain is not modified.
// TagSize bytes of spare capacity behind dst are used as scratch space if
// there are any (see SealRun). One use of the key.
//
// Errors: ErrSize, ErrOverlap.
func (c *BlockCipher) Seal(dst, plain []byte, index uint64) (Sealed, error) {
	if len(plain) > c.blockSize {
		return Sealed{}, fmt.Errorf("seal block %d of %d bytes: %w", index, len(plain), ErrSize)
	}
	var one [1]Sealed
	out, err := c.SealRun(dst, plain, index, one[:0])
	if err != nil {
		return Sealed{}, err
	}
	return out[0], nil
}

// SealRun encrypts consecutive blocks from block first on: plain holds them
// back to back, all full but the last, which may be short. dst has the same
// length and does not overlap plain. One Sealed per block is appended to out.
// plain is not modified. As many uses of the key as there are blocks.
//
// Each block is sealed in place in dst, its tag landing on the first bytes of
// the next block, which is sealed afterwards. Therefore the last block is free
// of a copy only if dst has TagSize bytes of spare capacity: these are then
// overwritten, as by append. NewBuffer makes such a slice; a caller whose
// spare capacity holds something else passes dst[:n:n].
//
// Errors: ErrSize, ErrOverlap. On error dst holds garbage.
func (c *BlockCipher) SealRun(dst, plain []byte, first uint64, out []Sealed) ([]Sealed, error) {
	if len(plain) == 0 || len(dst) != len(plain) {
		return out, fmt.Errorf("seal blocks from %d on: %d bytes into %d: %w", first, len(plain), len(dst), ErrSize)
	}
	if overlap(withSpare(dst), plain) {
		return out, fmt.Errorf("seal blocks from %d on: %w", first, ErrOverlap)
	}
	s := c.pool.Get().(*blockScratch)
	defer c.pool.Put(s)
	var nonces []byte
	for index := first; len(plain) > 0; index++ {
		n := min(len(plain), c.blockSize)
		if len(nonces) == 0 {
			blocks := (len(plain) + c.blockSize - 1) / c.blockSize
			nonces = s.nonces[:min(blocks*NonceSize, len(s.nonces))]
			if _, err := rand.Read(nonces); err != nil {
				return out, fmt.Errorf("draw nonces: %w", err)
			}
		}
		aad := c.aad(s.aad[:0], kindBlock, index, n)
		out = append(out, c.seal(s, dst, plain[:n], nonces[:NonceSize], aad))
		dst, plain, nonces = dst[n:], plain[n:], nonces[NonceSize:]
	}
	return out, nil
}

// seal encrypts one block to the start of dst. It writes the tag behind the
// ciphertext if the capacity allows and otherwise goes through the scratch.
// The
// bytes of nonce and aad must lie in s.
func (c *BlockCipher) seal(s *blockScratch, dst, plain, nonce, aad []byte) Sealed {
	n := len(plain)
	into := dst
	if cap(dst) < n+TagSize {
		into = s.grow(n + TagSize)
	}
	sealed := c.aead.Seal(into[:0], nonce, plain, aad)
	if cap(dst) < n+TagSize {
		copy(dst, sealed[:n])
	}
	return Sealed{Nonce: [NonceSize]byte(nonce), Tag: [TagSize]byte(sealed[n:]), CRC: Checksum(dst[:n])}
}

// Open decrypts block index into dst, which has the same length as ciphertext
// (1 to BlockSize bytes) and either is the same memory or does not overlap it.
// ciphertext is only read, and goes through a copy: it may be shared with
// others. OpenRun avoids the copy.
//
// Errors: ErrAuth, on which dst is wiped; ErrSize, ErrOverlap. The CRC is not
// looked at.
func (c *BlockCipher) Open(dst, ciphertext []byte, index uint64, sealed Sealed) error {
	n := len(ciphertext)
	if n == 0 || n > c.blockSize || len(dst) != n {
		return fmt.Errorf("open block %d: %d bytes into %d: %w", index, n, len(dst), ErrSize)
	}
	if inexactOverlap(dst, ciphertext) {
		return fmt.Errorf("open block %d: %w", index, ErrOverlap)
	}
	s := c.pool.Get().(*blockScratch)
	defer c.pool.Put(s)
	in := s.grow(n + TagSize)
	copy(in, ciphertext)
	return c.open(s, dst, in, index, &sealed, c.aad(s.aad[:0], kindBlock, index, n))
}

// OpenRun decrypts consecutive blocks from block first on: ciphertext holds
// them back to back, all full but the last, which may be short; sealed has one
// element per block. dst has the same length as ciphertext, and either is the
// same memory (decryption in place) or does not overlap it.
//
// No block is copied, at a price: ciphertext must be the caller's own, and is
// written to while the call lasts (each tag is put behind its block, and what
// it covered is put back); spare capacity behind ciphertext is used so if
// there are TagSize bytes of it (NewBuffer).
//
// It returns how many blocks were opened before the first error: their
// plaintext is valid, the rest of dst is wiped (in place: of ciphertext too). Errors: ErrAuth, ErrSize,
// ErrOverlap.
func (c *BlockCipher) OpenRun(dst, ciphertext []byte, first uint64, sealed []Sealed) (int, error) {
	blocks := (len(ciphertext) + c.blockSize - 1) / c.blockSize
	if blocks == 0 || len(dst) != len(ciphertext) || len(sealed) != blocks {
		return 0, fmt.Errorf("open blocks from %d on: %d bytes into %d, %d entries: %w",
			first, len(ciphertext), len(dst), len(sealed), ErrSize)
	}
	if inexactOverlap(dst, withSpare(ciphertext)) {
		return 0, fmt.Errorf("open blocks from %d on: %w", first, ErrOverlap)
	}
	s := c.pool.Get().(*blockScratch)
	defer c.pool.Put(s)
	for i := range sealed {
		n := min(len(ciphertext), c.blockSize)
		if err := c.openInRun(s, dst[:n], ciphertext, first+uint64(i), &sealed[i]); err != nil {
			clear(dst)
			return i, err
		}
		dst, ciphertext = dst[n:], ciphertext[n:]
	}
	return blocks, nil
}

// openInRun opens the first len(dst) bytes of rest with the tag put behind
// them, and restores what lay there.
func (c *BlockCipher) openInRun(s *blockScratch, dst, rest []byte, index uint64, sealed *Sealed) error {
	n := len(dst)
	if cap(rest) < n+TagSize {
		in := s.grow(n + TagSize)
		copy(in, rest[:n])
		return c.open(s, dst, in, index, sealed, c.aad(s.aad[:0], kindBlock, index, n))
	}
	in := rest[:n+TagSize]
	covered := [TagSize]byte(in[n:])
	err := c.open(s, dst, in, index, sealed, c.aad(s.aad[:0], kindBlock, index, n))
	copy(in[n:], covered[:])
	return err
}

// open decrypts in (ciphertext and room for the tag) into dst; wipes dst on
// failure.
func (c *BlockCipher) open(s *blockScratch, dst, in []byte, index uint64, sealed *Sealed, aad []byte) error {
	n := len(dst)
	copy(in[n:], sealed.Tag[:])
	nonce := s.nonces[:NonceSize]
	copy(nonce, sealed.Nonce[:])
	if _, err := c.aead.Open(dst[:0], nonce, in, aad); err != nil {
		clear(dst)
		return fmt.Errorf("open block %d of inode %d: %w", index, c.id.Inode, ErrAuth)
	}
	return nil
}

// SealInline encrypts the whole content of a small file (0 to MaxInline
// bytes) and returns nonce || ciphertext || tag in a new slice. plain is not
// modified. One use of the key. Error: ErrSize.
func (c *BlockCipher) SealInline(plain []byte) ([]byte, error) {
	if len(plain) > MaxInline {
		return nil, fmt.Errorf("seal inline content of %d bytes: %w", len(plain), ErrSize)
	}
	out := make([]byte, NonceSize, len(plain)+InlineOverhead)
	if _, err := rand.Read(out); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	return c.sealInline(out, plain), nil
}

// sealInline appends ciphertext and tag to out, which holds the nonce.
func (c *BlockCipher) sealInline(out, plain []byte) []byte {
	return c.aead.Seal(out, out[:NonceSize], plain, c.aad(nil, kindInline, 0, len(plain)))
}

// OpenInline appends the content sealed by SealInline to dst and returns the
// extended slice; dst must not overlap sealed, which is only read.
//
// Errors: ErrShort, ErrFormat (longer than MaxInline allows), ErrAuth.
func (c *BlockCipher) OpenInline(dst, sealed []byte) ([]byte, error) {
	n := len(sealed) - InlineOverhead
	if n < 0 {
		return nil, fmt.Errorf("inline content of inode %d: %w", c.id.Inode, ErrShort)
	}
	if n > MaxInline {
		return nil, fmt.Errorf("inline content of inode %d is %d bytes long: %w", c.id.Inode, n, ErrFormat)
	}
	aad := c.aad(nil, kindInline, 0, n)
	out, err := c.aead.Open(dst, sealed[:NonceSize], sealed[NonceSize:], aad)
	if err != nil {
		return nil, fmt.Errorf("open inline content of inode %d: %w", c.id.Inode, ErrAuth)
	}
	return out, nil
}

// grow returns n bytes of scratch space.
func (s *blockScratch) grow(n int) []byte {
	if cap(s.tail) < n {
		s.tail = make([]byte, n)
	}
	return s.tail[:n]
}
