package hsm

import "crypto/aes"

// XAESNonceSize is the length of Sealed.IV of XAES256GCM, in bytes: the first half selects a subkey, the second is the nonce of AES-256-GCM under it.
const XAESNonceSize = 24

// XAESInputs returns the two blocks whose encryptions under a key, one after the other, are the subkey of XAES256GCM for a nonce: the CMAC-based key derivation of NIST SP 800-108 in counter mode, where each
// message is one block and needs the first CMAC subkey only. zero is the encryption of the zero block under the key. So whatever encrypts single blocks can derive it.
func XAESInputs(zero [aes.BlockSize]byte, nonce []byte) (blocks [2][aes.BlockSize]byte) {
	k1 := zero
	double(&k1)
	for half := range blocks {
		m := &blocks[half]
		m[1], m[2] = byte(half+1), 'X'
		copy(m[4:], nonce[:XAESNonceSize/2])
		for i := range m {
			m[i] ^= k1[i]
		}
	}
	clear(k1[:])
	return blocks
}

// double multiplies by x in GF(2^128) as CMAC defines it.
func double(b *[aes.BlockSize]byte) {
	var carry byte
	for i := len(b) - 1; i >= 0; i-- {
		next := b[i] >> 7
		b[i] = b[i]<<1 | carry
		carry = next
	}
	b[len(b)-1] ^= 0x87 & -carry
}
