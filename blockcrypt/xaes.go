package blockcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"sync/atomic"
)

const (
	// SealNonceSize is the length of the nonce of a sealed message, in bytes.
	SealNonceSize = 24

	// SealOverhead is by how many bytes a sealed message is longer than its
	// plaintext.
	SealOverhead = SealNonceSize + TagSize

	// WrapSize is the length of a wrapped key, in bytes.
	WrapSize = SealNonceSize + KeySize + TagSize
)

// Sealer is an XAES-256-GCM key (c2sp.org/XAES-256-GCM). Its nonces of 192
// bits are random, the first half for a run of messages, whose AES-GCM key is
// derived once: the number of messages need not be counted. It is safe for
// concurrent use, and holds key material until it is collected.
type Sealer struct {
	block cipher.Block // AES-256 under the key
	k1    [aes.BlockSize]byte

	sealing atomic.Pointer[run]                 // what Seal goes on with
	opened  [openedRuns]atomic.Pointer[derived] // what Open used, by the first byte of the half nonce
}

// NewSealer expands k, which is not kept: the caller may wipe it at once.
func NewSealer(k *Key) (*Sealer, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, fmt.Errorf("expand sealing key: %w", err)
	}
	s := &Sealer{block: block}
	block.Encrypt(s.k1[:], s.k1[:])
	doubleBlock(&s.k1)
	return s, nil
}

// doubleBlock multiplies by x in GF(2^128) as CMAC's subkey generation does
// (NIST SP 800-38B, 6.1), without a branch on the secret.
func doubleBlock(b *[aes.BlockSize]byte) {
	msb := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ byte(subtle.ConstantTimeSelect(int(msb), 0x87, 0))
}

// subkey expands the AES-256-GCM key of a nonce.
func (s *Sealer) subkey(nonce []byte) (*derived, error) {
	var k Key
	defer k.Wipe()
	s.deriveSubkey(&k, nonce)
	aead, err := newGCM(k[:])
	if err != nil {
		return nil, fmt.Errorf("derive message key: %w", err)
	}
	return &derived{half: [halfNonce]byte(nonce), aead: aead}, nil
}

// deriveSubkey derives k from the nonce's first half: two CMACs of one block
// each, with the counter, the label 'X' and the half nonce as the message.
func (s *Sealer) deriveSubkey(k *Key, nonce []byte) {
	*k = Key{}
	for i := range 2 {
		m := k[i*aes.BlockSize : (i+1)*aes.BlockSize]
		m[1], m[2] = byte(i+1), 'X'
		copy(m[4:], nonce[:halfNonce])
		subtle.XORBytes(m, m, s.k1[:])
		s.block.Encrypt(m, m)
	}
}

// Seal appends nonce || ciphertext || tag to dst and returns the extended
// slice. The nonce is drawn at random. plaintext and aad are only read; dst's
// spare capacity must not overlap them.
func (s *Sealer) Seal(dst, plaintext, aad []byte) ([]byte, error) {
	d, err := s.current()
	if err != nil {
		return nil, err
	}
	var nonce [SealNonceSize]byte
	copy(nonce[:], d.half[:])
	if _, err := rand.Read(nonce[halfNonce:]); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	return d.seal(dst, &nonce, plaintext, aad), nil
}

// seal is Seal with a nonce that begins with d's half.
func (d *derived) seal(dst []byte, nonce *[SealNonceSize]byte, plaintext, aad []byte) []byte {
	if need := len(dst) + len(plaintext) + SealOverhead; cap(dst) < need {
		dst = append(make([]byte, 0, need), dst...)
	}
	dst = append(dst, nonce[:]...)
	return d.aead.Seal(dst, nonce[halfNonce:], plaintext, aad)
}

// Open appends the plaintext of a message made by Seal with the same aad to
// dst and returns the extended slice. sealed and aad are only read; dst's
// spare capacity must not overlap them.
//
// Errors: ErrShort, ErrAuth.
func (s *Sealer) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < SealOverhead {
		return nil, fmt.Errorf("sealed message of %d bytes: %w", len(sealed), ErrShort)
	}
	d, err := s.known(sealed)
	if err != nil {
		return nil, err
	}
	out, err := d.aead.Open(dst, sealed[halfNonce:SealNonceSize], sealed[SealNonceSize:], aad)
	if err != nil {
		return nil, fmt.Errorf("sealed message: %w", ErrAuth)
	}
	return out, nil
}

// Wrap seals a key: nonce x[24] || ciphertext x[32] || tag x[16]. aad says
// where the wrap belongs (Place.AAD, NamesKeyAAD).
func (s *Sealer) Wrap(k *Key, aad []byte) ([WrapSize]byte, error) {
	var w [WrapSize]byte
	if _, err := s.Seal(w[:0], k[:], aad); err != nil {
		return [WrapSize]byte{}, err
	}
	return w, nil
}

// Unwrap opens a wrapped key (WrapSize bytes). The caller wipes it.
//
// Errors: ErrFormat (length; ErrShort if shorter), ErrAuth.
func (s *Sealer) Unwrap(w, aad []byte) (*Key, error) {
	if len(w) < WrapSize {
		return nil, fmt.Errorf("wrapped key of %d bytes: %w", len(w), ErrShort)
	}
	if len(w) > WrapSize {
		return nil, fmt.Errorf("wrapped key of %d bytes: %w", len(w), ErrFormat)
	}
	k := new(Key)
	if _, err := s.Open(k[:0], w, aad); err != nil {
		k.Wipe()
		return nil, fmt.Errorf("unwrap key: %w", err)
	}
	return k, nil
}
