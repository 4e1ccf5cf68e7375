package hsm

import (
	"fmt"
	"unicode/utf8"
)

// CheckEncrypt refuses arguments of Encrypt that are out of range with ErrSize.
// Implementations call it first.
func CheckEncrypt(plaintext, aad []byte) error {
	if len(plaintext) == 0 || len(plaintext) > MaxPlaintext {
		return fmt.Errorf("%w: plaintext of %d bytes, allowed are 1 to %d", ErrSize, len(plaintext), MaxPlaintext)
	}
	return checkAAD(aad)
}

// CheckDecrypt refuses arguments of Decrypt that are out of range or that the
// named mechanism with an IV of ivSize bytes never makes: ErrAuth, or ErrSize
// for the AAD. Implementations call it first.
func CheckDecrypt(s Sealed, aad []byte, mechanism string, ivSize int) error {
	switch {
	case s.Mechanism != mechanism:
		return fmt.Errorf("%w: mechanism %.32q, this token makes %q", ErrAuth, s.Mechanism, mechanism)
	case len(s.IV) != ivSize:
		return fmt.Errorf("%w: IV of %d bytes instead of %d", ErrAuth, len(s.IV), ivSize)
	case len(s.Ciphertext) <= TagSize || len(s.Ciphertext) > MaxCiphertext:
		return fmt.Errorf("%w: ciphertext of %d bytes, allowed are %d to %d",
			ErrAuth, len(s.Ciphertext), TagSize+1, MaxCiphertext)
	}
	return checkAAD(aad)
}

// CheckLabel refuses labels that are empty, too long or not UTF-8 with ErrSize.
func CheckLabel(label string) error {
	if label == "" || len(label) > MaxLabel || !utf8.ValidString(label) {
		return fmt.Errorf("%w: a key's label is 1 to %d bytes of UTF-8", ErrSize, MaxLabel)
	}
	return nil
}

func checkAAD(aad []byte) error {
	if len(aad) > MaxAAD {
		return fmt.Errorf("%w: context of %d bytes, allowed are %d", ErrSize, len(aad), MaxAAD)
	}
	return nil
}
