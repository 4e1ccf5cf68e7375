package keymgr

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
)

// A ciphertext blob is (docs/FORMAT.md, section 10)
//
//	version u8 || material x[32] || sealed
//
// and a sealed secret of a token is
//
//	mechanism u8 || iv x[12 or 24] || ciphertext || tag x[16]
//
// version and material are authenticated together with the encryption context (blobAAD); mechanism and iv are authenticated by the AEAD itself.
const (
	blobVersion    = 1
	materialSize   = 32
	blobHeaderSize = 1 + materialSize

	mechanismAESGCM  = 1
	mechanismXAESGCM = 2
	mechanismRemote  = 3
)

// materialID names one backing key in every blob that it made. Random; the first half is the key's id in the token at the time it was made.
type materialID [materialSize]byte

func (id materialID) String() string { return hex.EncodeToString(id[:]) }

// blob is a parsed ciphertext blob; its slices alias the input.
type blob struct {
	material materialID
	sealed   hsm.Sealed
}

// MaterialOf returns the id of the backing key that a blob names (VersionInfo.MaterialID); nothing says that it made it. ErrInvalidCiphertext for what is no blob.
func MaterialOf(ciphertext []byte) (string, error) {
	b, err := parseBlob(ciphertext)
	if err != nil {
		return "", &Fault{Class: ErrInvalidCiphertext, Cause: err}
	}
	return b.material.String(), nil
}

// parseBlob reads a blob. Every shape that encodeBlob does not make is an error without a class: the caller answers ErrInvalidCiphertext.
func parseBlob(b []byte) (blob, error) {
	if len(b) > MaxBlob {
		return blob{}, fmt.Errorf("blob of %d bytes", len(b))
	}
	if len(b) < blobHeaderSize {
		return blob{}, fmt.Errorf("blob of %d bytes", len(b))
	}
	if b[0] != blobVersion {
		return blob{}, fmt.Errorf("blob version %d", b[0])
	}
	sealed, err := DecodeSealed(b[blobHeaderSize:])
	if err != nil {
		return blob{}, err
	}
	return blob{material: materialID(b[1:blobHeaderSize]), sealed: sealed}, nil
}

// encodeBlob is the inverse of parseBlob.
func encodeBlob(v blob) ([]byte, error) {
	sealed, err := EncodeSealed(v.sealed)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, blobHeaderSize+len(sealed))
	out = append(out, blobVersion)
	out = append(out, v.material[:]...)
	return append(out, sealed...), nil
}

// blobAAD is what a blob is bound to besides its key:
//
//	"kmsfs blob" || version u8 || material x[32] || length u32 || canonical encryption context
//
// Errors: ErrValidation for a context that has no canonical form or is too long.
func blobAAD(material materialID, c Context) ([]byte, error) {
	enc, err := blockcrypt.EncodeContext(c)
	if err != nil {
		return nil, &Fault{Class: ErrValidation, Message: "EncryptionContext: " + err.Error()}
	}
	aad := make([]byte, 0, len("kmsfs blob")+blobHeaderSize+4+len(enc))
	aad = append(aad, "kmsfs blob"...)
	aad = append(aad, blobVersion)
	aad = append(aad, material[:]...)
	aad = binary.BigEndian.AppendUint32(aad, uint32(len(enc)))
	return append(aad, enc...), nil
}

// EncodeSealed returns the bytes of a token's sealed secret, as they stand in blobs and in the key store's configuration.
func EncodeSealed(s hsm.Sealed) ([]byte, error) {
	mechanism, ivSize, limit := byte(0), 0, hsm.MaxCiphertext
	switch s.Mechanism {
	case hsm.AESGCM:
		mechanism, ivSize = mechanismAESGCM, 12
	case hsm.XAES256GCM:
		mechanism, ivSize = mechanismXAESGCM, 24
	case hsm.RemoteKMS:
		mechanism, limit = mechanismRemote, hsm.MaxRemote
	default:
		return nil, fmt.Errorf("encode sealed secret: mechanism %q", s.Mechanism)
	}
	if len(s.IV) != ivSize || len(s.Ciphertext) <= hsm.TagSize || len(s.Ciphertext) > limit {
		return nil, fmt.Errorf("encode sealed secret: iv of %d, ciphertext of %d bytes", len(s.IV), len(s.Ciphertext))
	}
	out := make([]byte, 0, 1+ivSize+len(s.Ciphertext))
	out = append(out, mechanism)
	out = append(out, s.IV...)
	return append(out, s.Ciphertext...), nil
}

// DecodeSealed is the inverse of EncodeSealed; the result aliases b. Any other shape is an error.
func DecodeSealed(b []byte) (hsm.Sealed, error) {
	if len(b) == 0 {
		return hsm.Sealed{}, fmt.Errorf("sealed secret is empty")
	}
	s, ivSize, limit := hsm.Sealed{}, 0, hsm.MaxCiphertext
	switch b[0] {
	case mechanismAESGCM:
		s.Mechanism, ivSize = hsm.AESGCM, 12
	case mechanismXAESGCM:
		s.Mechanism, ivSize = hsm.XAES256GCM, 24
	case mechanismRemote:
		s.Mechanism, limit = hsm.RemoteKMS, hsm.MaxRemote
	default:
		return hsm.Sealed{}, fmt.Errorf("sealed secret of unknown mechanism %d", b[0])
	}
	if n := len(b) - 1 - ivSize; n <= hsm.TagSize || n > limit {
		return hsm.Sealed{}, fmt.Errorf("sealed secret of %d bytes", len(b))
	}
	s.IV, s.Ciphertext = b[1:1+ivSize:1+ivSize], b[1+ivSize:]
	return s, nil
}
