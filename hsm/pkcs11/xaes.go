//go:build cgo

package pkcs11

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// decryptXAES opens what an embedded token made before its key was imported here. The token encrypts three blocks (CKM_AES_ECB); the subkey that they give, which is good for this one ciphertext, is in the memory of
// this process for a moment, as its plaintext is.
func (t *Token) decryptXAES(ctx context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	if err := hsm.CheckDecrypt(s, aad, hsm.XAES256GCM, hsm.XAESNonceSize); err != nil {
		return nil, t.wrap("decrypt with key", id, err)
	}
	iv := slices.Clone(s.IV)
	sub, err := do(ctx, t, task[[]byte]{
		discard: func(sub []byte) { clear(sub) },
		run: func(c *conn, s p11.SessionHandle) (sub []byte, err error) {
			err = t.withKey(c, s, id, func(key p11.ObjectHandle) (err error) {
				sub, err = c.subkey(s, key, iv)
				return err
			})
			return sub, err
		},
	})
	defer clear(sub)
	if err != nil {
		return nil, t.wrap("decrypt with key", id, err)
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, t.wrap("decrypt with key", id, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, t.wrap("decrypt with key", id, err)
	}
	plain, err := aead.Open(nil, s.IV[hsm.XAESNonceSize/2:], s.Ciphertext, aad)
	if err != nil {
		return nil, t.wrap("decrypt with key", id, hsm.ErrAuth)
	}
	return plain, nil
}

// subkey derives the key of one nonce. The caller wipes it.
func (c *conn) subkey(s p11.SessionHandle, key p11.ObjectHandle, nonce []byte) ([]byte, error) {
	zero, err := c.mod.native.blocks(s, key, make([]byte, aes.BlockSize))
	if err != nil {
		return nil, err
	}
	defer clear(zero)
	inputs := hsm.XAESInputs([aes.BlockSize]byte(zero), nonce)
	return c.mod.native.blocks(s, key, slices.Concat(inputs[0][:], inputs[1][:]))
}
