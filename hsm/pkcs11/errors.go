//go:build cgo

package pkcs11

import (
	"errors"

	p11 "github.com/miekg/pkcs11"
)

// errLost marks an error after which the connection has to be made anew.
var errLost = errors.New("connection to the token lost")

// code is the module's return value in err, CKR_OK if there is none.
func code(err error) uint {
	var e p11.Error
	if errors.As(err, &e) {
		return uint(e)
	}
	return p11.CKR_OK
}

// lost says that the module has lost the token, the session or the login.
func lost(err error) bool {
	switch code(err) {
	case p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_MEMORY,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_SLOT_ID_INVALID,
		p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_COUNT,
		p11.CKR_USER_NOT_LOGGED_IN, p11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return true
	}
	return errors.Is(err, errLost)
}

// handleGone says that a key's handle is not valid: the key was destroyed, or
// the token is away (SoftHSM says nothing else then).
func handleGone(err error) bool {
	c := code(err)
	return c == p11.CKR_KEY_HANDLE_INVALID || c == p11.CKR_OBJECT_HANDLE_INVALID
}

// maybeBlob says that a failed decryption may be the blob's fault. SoftHSM
// answers CKR_GENERAL_ERROR to a wrong tag; the others are what the specification
// and other modules use.
func maybeBlob(err error) bool {
	const aeadDecryptFailed = 0x42 // CKR_AEAD_DECRYPT_FAILED of PKCS#11 3.0
	switch code(err) {
	case p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_DATA_INVALID, p11.CKR_DATA_LEN_RANGE,
		p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, aeadDecryptFailed,
		p11.CKR_SIGNATURE_INVALID, p11.CKR_SIGNATURE_LEN_RANGE:
		return true
	}
	return false
}
