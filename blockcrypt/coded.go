package blockcrypt

import (
	"crypto/rand"
	"fmt"
)

// Coding says what sealed bytes stand for that were compressed before. It is
// authenticated with them: what was sealed under one coding opens under no
// other, and not as bytes that were not compressed.
type Coding struct {
	Codec uint8  // how; 0 is refused. Its meaning is the caller's
	Plain uint32 // bytes that it decompresses to
}

// check: what is sealed is shorter than what it stands for.
func (g Coding) check(n int, limit int) error {
	if g.Codec == 0 || n == 0 || uint64(n) >= uint64(g.Plain) || uint64(g.Plain) > uint64(limit) {
		return fmt.Errorf("%d bytes coded (%d) for %d: %w", n, g.Codec, g.Plain, ErrSize)
	}
	return nil
}

// SealCoded is Seal for a block that was compressed: coded is what is sealed,
// fewer bytes than coding.Plain, which is at most BlockSize. One use of the
// key.
//
// Errors: ErrSize, ErrOverlap.
func (c *BlockCipher) SealCoded(dst, coded []byte, index uint64, coding Coding) (Sealed, error) {
	if err := coding.check(len(coded), c.blockSize); err != nil || len(dst) != len(coded) {
		return Sealed{}, fmt.Errorf("seal block %d of %d bytes into %d: %w", index, len(coded), len(dst), ErrSize)
	}
	if overlap(withSpare(dst), coded) {
		return Sealed{}, fmt.Errorf("seal block %d: %w", index, ErrOverlap)
	}
	s := c.pool.Get().(*blockScratch)
	defer c.pool.Put(s)
	nonce := s.nonces[:NonceSize]
	if _, err := rand.Read(nonce); err != nil {
		return Sealed{}, fmt.Errorf("draw nonce: %w", err)
	}
	return c.seal(s, dst, coded, nonce, c.codedAAD(s.aad[:0], kindCodedBlock, index, len(coded), coding)), nil
}

// OpenCoded is Open for a block that SealCoded sealed: dst gets the compressed
// bytes.
//
// Errors: ErrAuth, on which dst is wiped; ErrSize, ErrOverlap.
func (c *BlockCipher) OpenCoded(dst, ciphertext []byte, index uint64, sealed Sealed, coding Coding) error {
	n := len(ciphertext)
	if err := coding.check(n, c.blockSize); err != nil || len(dst) != n {
		return fmt.Errorf("open block %d: %d bytes into %d: %w", index, n, len(dst), ErrSize)
	}
	if inexactOverlap(dst, ciphertext) {
		return fmt.Errorf("open block %d: %w", index, ErrOverlap)
	}
	s := c.pool.Get().(*blockScratch)
	defer c.pool.Put(s)
	in := s.grow(n + TagSize)
	copy(in, ciphertext)
	return c.open(s, dst, in, index, &sealed, c.codedAAD(s.aad[:0], kindCodedBlock, index, n, coding))
}

// SealInlineCoded is SealInline for content that was compressed to coded,
// fewer bytes than coding.Plain, which is at most MaxInline.
func (c *BlockCipher) SealInlineCoded(coded []byte, coding Coding) ([]byte, error) {
	if err := coding.check(len(coded), MaxInline); err != nil {
		return nil, fmt.Errorf("seal inline content: %w", err)
	}
	out := make([]byte, NonceSize, len(coded)+InlineOverhead)
	if _, err := rand.Read(out); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	return c.aead.Seal(out, out[:NonceSize], coded, c.codedAAD(nil, kindCodedInline, 0, len(coded), coding)), nil
}

// OpenInlineCoded appends what SealInlineCoded sealed, still compressed, to dst
// and returns the extended slice; dst must not overlap sealed.
//
// Errors: ErrShort, ErrSize, ErrAuth.
func (c *BlockCipher) OpenInlineCoded(dst, sealed []byte, coding Coding) ([]byte, error) {
	n := len(sealed) - InlineOverhead
	if n < 0 {
		return nil, fmt.Errorf("inline content of inode %d: %w", c.id.Inode, ErrShort)
	}
	if err := coding.check(n, MaxInline); err != nil {
		return nil, fmt.Errorf("inline content of inode %d: %w", c.id.Inode, err)
	}
	out, err := c.aead.Open(dst, sealed[:NonceSize], sealed[NonceSize:], c.codedAAD(nil, kindCodedInline, 0, n, coding))
	if err != nil {
		return nil, fmt.Errorf("open inline content of inode %d: %w", c.id.Inode, ErrAuth)
	}
	return out, nil
}
