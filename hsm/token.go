// Package hsm says what kmsfs needs of whatever holds its backing keys: a small
// contract, Token, and the errors that go with it.
//
// A token keeps AES-256 keys that were generated inside it and never leave it.
// It encrypts and decrypts short secrets (other keys, in practice) under those
// keys, with additional authenticated data (AAD) that has to be presented again
// to decrypt. Two implementations exist: hsm/soft keeps the keys sealed in a
// directory, hsm/pkcs11 drives a PKCS#11 module; hsm/worker puts the second one
// into a process of its own behind the same contract. All of them pass the one
// suite in hsm/hsmtest.
//
// The package does not know what the keys are for: customer-managed keys,
// versions, policies, encryption contexts and the audit log belong to keymgr.
// It never chooses a key: the caller names one in every call, so nothing is ever
// decrypted by trial.
//
// Nouns: a token holds keys; a key has a KeyID, a label for people and a check
// value that recognises it; Encrypt gives a Sealed; the sentinel is an object
// that tells "the key is gone" from "the token is gone".
//
// docs/FORMAT.md section 10 describes what lies in a token.
package hsm

import (
	"context"
	"time"
)

// Limits of every implementation.
const (
	// MaxPlaintext is the largest plaintext Encrypt takes, in bytes. The
	// smallest is 1.
	MaxPlaintext = 4096
	// MaxAAD is the largest additional authenticated data, in bytes. None (nil
	// or empty, which mean the same) is allowed.
	MaxAAD = 16 << 10
	// MaxLabel is the longest label, in bytes of UTF-8.
	MaxLabel = 255
	// MaxIV is the longest initialisation vector a Sealed may carry, in bytes.
	MaxIV = 64
	// MaxCiphertext is the longest ciphertext with its tag, in bytes.
	MaxCiphertext = MaxPlaintext + TagSize
	// MaxRemote is the longest ciphertext of RemoteKMS, in bytes: a blob of ours that
	// holds it must stay within AWS' 6144.
	MaxRemote = 6144 - 64
	// TagSize is the length of the authentication tag, in bytes: 128 bits,
	// whatever a module would agree to.
	TagSize = 16
)

// Mechanisms. Every Sealed names the one it was made by.
const (
	// AESGCM is AES-256-GCM under the backing key itself with a random 96-bit
	// IV (12 bytes in Sealed.IV). PKCS#11 tokens use it.
	AESGCM = "AES-GCM"
	// XAES256GCM is C2SP's extended-nonce construction: each call uses a subkey
	// of its own (24 bytes in Sealed.IV). Soft tokens use it.
	XAES256GCM = "XAES-256-GCM"
	// RemoteKMS is a ciphertext blob of another key manager, whatever that made it
	// by: no Sealed.IV, at most MaxRemote bytes.
	RemoteKMS = "AWS-KMS"
)

// Kinds of tokens.
const (
	// KindSoft is the embedded token: not an HSM.
	KindSoft = "soft"
	// KindPKCS11 is a token behind a PKCS#11 module.
	KindPKCS11 = "pkcs11"
	// KindKMS is another key manager.
	KindKMS = "kms"
)

// Token holds backing keys.
//
// Every method is bounded by its context and by the implementation's own limit
// for one call, whichever is shorter, and is safe for concurrent use. Slices
// passed in are only read, and no longer used when the method has returned;
// slices returned belong to the caller, who wipes plaintext.
//
// Any method may return ErrTokenAway (or ErrTimeout, which is one) when the
// token cannot be reached: the same call may succeed later, without reopening.
// After Close every method returns ErrClosed.
type Token interface {
	// GenerateKey makes an AES-256 key inside the token, sensitive and
	// non-extractable, and returns when it is durable there. The id is the
	// caller's choice and new (ErrExists if not); the label is for people who
	// look at the token with other tools and need not be unique.
	// When it fails with ErrTokenAway the key may exist all the same: ask
	// FindKey for it.
	GenerateKey(ctx context.Context, id KeyID, label string) (KeyInfo, error)

	// FindKey describes a key. ErrKeyNotFound says that the token is there and
	// the key is not.
	FindKey(ctx context.Context, id KeyID) (KeyInfo, error)

	// Encrypt encrypts 1 to MaxPlaintext bytes under key id. ErrSize if
	// plaintext or aad is out of range.
	Encrypt(ctx context.Context, id KeyID, plaintext, aad []byte) (Sealed, error)

	// Decrypt opens what Encrypt made under the same key with the same aad, and
	// refuses everything else with ErrAuth, including a Sealed of a shape or
	// mechanism this token never makes.
	Decrypt(ctx context.Context, id KeyID, s Sealed, aad []byte) ([]byte, error)

	// DestroyKey removes a key for good. Nothing that it encrypted can be read
	// again. ErrKeyNotFound if there is none.
	DestroyKey(ctx context.Context, id KeyID) error

	// Info describes the token. It asks the token itself, so it is the health
	// check as well.
	Info(ctx context.Context) (Info, error)

	// Close ends all use and wipes what is held in memory. It does not wait
	// for calls that hang in a module.
	Close() error
}

// Sealed is one encrypted secret.
type Sealed struct {
	Mechanism  string // AESGCM or XAES256GCM
	IV         []byte // as the token used it: 12 bytes for AESGCM, 24 for XAES256GCM
	Ciphertext []byte // as long as the plaintext, then the 16-byte tag
}

// KeyInfo describes a key in a token.
type KeyInfo struct {
	ID    KeyID
	Label string
	// CheckValue recognises the key without giving it away: the first 3 bytes
	// of the AES encryption of a zero block (CKA_CHECK_VALUE).
	CheckValue []byte
	// Created is when the key was made; zero if the token does not keep that.
	Created time.Time
	// Local, Sensitive and NeverExtractable say what the token says of the key:
	// generated in the token; unreadable and always so; never exportable. They
	// are all false for imported keys, and all false for soft tokens, whose
	// keys do lie in memory.
	Local, Sensitive, NeverExtractable bool
}

// Info describes a token.
type Info struct {
	Kind   string // KindSoft or KindPKCS11
	Label  string // the token's own label; for soft tokens the directory
	Model  string // for people, e.g. "SoftHSM v2"
	Serial string // recognises the token
	// HSM is false for the embedded token, which keeps its keys in files.
	// It says what kind of thing is spoken to, not how good it is: SoftHSM
	// calls itself a token too.
	HSM        bool
	Mechanisms []string // what Encrypt can make; the first is what it does make
	Imports    bool     // the token is an Importer that takes keys
}
