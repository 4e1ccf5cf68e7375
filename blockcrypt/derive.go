package blockcrypt

import (
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// What a derived value is for. First part of HKDF's info, so that a key never
// equals a commitment, whatever the labels say.
const (
	purposeKey        = "kmsfs key"
	purposeCommitment = "kmsfs commitment"
)

// maxLabel is the longest label: its length is written as u16.
const maxLabel = 1<<16 - 1

// DeriveKey derives a key from a uniformly random secret: HKDF-SHA512 (RFC
// 5869) with an empty salt and the info
//
//	"kmsfs key" || format u8 || len(label) u16 || label || context
//
// Different labels or contexts give independent keys. The caller wipes the
// result. ErrSize if the label is empty or longer than 65535 bytes.
func DeriveKey(secret *Key, label string, context []byte) (*Key, error) {
	info, err := deriveInfo(purposeKey, label, context)
	if err != nil {
		return nil, err
	}
	return expand(secret, nil, info)
}

// KeyCommitment returns the value that commits to k for a purpose and place
// (zone and volume keys; a file's key has BlockCipher.Commitment). It is made
// as DeriveKey makes keys, with "kmsfs commitment" in place of "kmsfs key":
// it may be stored in clear. The label is a constant of the caller, of 1 to
// 65535 bytes; any other panics.
func KeyCommitment(k *Key, label string, context []byte) [CommitmentSize]byte {
	info, err := deriveInfo(purposeCommitment, label, context)
	if err != nil {
		panic("blockcrypt: KeyCommitment: " + err.Error())
	}
	c, err := expand(k, nil, info)
	if err != nil {
		panic("blockcrypt: KeyCommitment: " + err.Error())
	}
	return [CommitmentSize]byte(*c)
}

// VerifyCommitment compares the stored commitment of k with a fresh one in
// constant time: ErrCommitment if they differ.
func VerifyCommitment(k *Key, label string, context []byte, stored [CommitmentSize]byte) error {
	c := KeyCommitment(k, label, context)
	if subtle.ConstantTimeCompare(c[:], stored[:]) != 1 {
		return ErrCommitment
	}
	return nil
}

// deriveInfo builds HKDF's info. The only variable part before the last is
// length-prefixed, so two different (label, context) never give one info.
func deriveInfo(purpose, label string, context []byte) ([]byte, error) {
	if label == "" || len(label) > maxLabel {
		return nil, fmt.Errorf("derivation label of %d bytes: %w", len(label), ErrSize)
	}
	info := append([]byte(purpose), FormatVersion)
	info = binary.BigEndian.AppendUint16(info, uint16(len(label)))
	info = append(info, label...)
	return append(info, context...), nil
}

// expand is HKDF-SHA512 with 32 bytes of output.
func expand(secret *Key, salt, info []byte) (*Key, error) {
	okm, err := hkdf.Key(sha512.New, secret[:], salt, string(info), KeySize)
	if err != nil {
		return nil, fmt.Errorf("hkdf: %w", err)
	}
	k := Key(okm)
	clear(okm)
	return &k, nil
}

// deriveBlockKey derives a file's block key and its commitment from the data
// key. salt = volume || inode u64 || epoch u32; the info carries the suite.
func deriveBlockKey(dek *Key, id FileID, suite Suite) (*Key, [CommitmentSize]byte, error) {
	salt := make([]byte, 0, 16+8+4)
	salt = append(salt, id.Volume[:]...)
	salt = binary.BigEndian.AppendUint64(salt, id.Inode)
	salt = binary.BigEndian.AppendUint32(salt, id.Epoch)
	prk, err := hkdf.Extract(sha512.New, dek[:], salt)
	if err != nil {
		return nil, [CommitmentSize]byte{}, err
	}
	defer clear(prk)
	var out [2]Key
	for i, purpose := range []string{purposeKey, purposeCommitment} {
		info, err := deriveInfo(purpose, "block", []byte{byte(suite)})
		if err != nil {
			return nil, [CommitmentSize]byte{}, err
		}
		okm, err := hkdf.Expand(sha512.New, prk, string(info), KeySize)
		if err != nil {
			return nil, [CommitmentSize]byte{}, err
		}
		out[i] = Key(okm)
		clear(okm)
	}
	key := out[0]
	out[0].Wipe()
	return &key, [CommitmentSize]byte(out[1]), nil
}
