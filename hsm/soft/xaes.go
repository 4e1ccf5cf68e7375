package soft

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
)

// Sizes of XAES-256-GCM, in bytes.
const (
	keySize    = 32
	nonceSize  = hsm.XAESNonceSize
	tagSize    = 16
	sealedSize = nonceSize + keySize + tagSize // a sealed key
)

var errOpen = errors.New("not authentic")

// seal encrypts plain with a fresh nonce and appends the ciphertext and its tag
// to dst. XAES-256-GCM is C2SP's construction: half of the 192-bit random nonce
// selects a subkey, the other half is the nonce of AES-256-GCM under it, so no
// count of uses limits a key.
func seal(dst, key, plain, aad []byte) (nonce, ct []byte, err error) {
	nonce = make([]byte, nonceSize)
	rand.Read(nonce) // never fails
	aead, err := subcipher(key, nonce)
	if err != nil {
		return nil, nil, err
	}
	return nonce, aead.Seal(dst, nonce[nonceSize/2:], plain, aad), nil
}

// open reverses seal and appends the plaintext to dst; errOpen if the
// ciphertext is not authentic.
func open(dst, key, nonce, ct, aad []byte) ([]byte, error) {
	aead, err := subcipher(key, nonce)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(dst, nonce[nonceSize/2:], ct, aad)
	if err != nil {
		return nil, errOpen
	}
	return plain, nil
}

// subcipher derives the AES-256-GCM of one nonce: the CMAC-based key derivation
// of NIST SP 800-108 in counter mode, for two blocks, whose one message block
// needs the first CMAC subkey only.
//
// The expanded keys lie on the Go heap until they are collected: there is no
// way to place or wipe a cipher.Block.
func subcipher(key, nonce []byte) (cipher.AEAD, error) {
	if len(key) != keySize || len(nonce) != nonceSize {
		return nil, fmt.Errorf("key of %d and nonce of %d bytes", len(key), len(nonce))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var zero [aes.BlockSize]byte
	block.Encrypt(zero[:], zero[:])
	var sub [keySize]byte
	defer clear(sub[:])
	for half, m := range hsm.XAESInputs(zero, nonce) {
		block.Encrypt(sub[half*aes.BlockSize:], m[:])
	}
	inner, err := aes.NewCipher(sub[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(inner)
}

// checkValue is the first 3 bytes of the AES encryption of a zero block, which
// PKCS#11 calls CKA_CHECK_VALUE.
func checkValue(key []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var b [aes.BlockSize]byte
	block.Encrypt(b[:], b[:])
	return b[:3], nil
}
