package keymgr

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// algorithm is the only one that keys here have.
const algorithm = "SYMMETRIC_DEFAULT"

// GenerateDataKey makes a random data key and returns it in clear and under the key. Errors: ErrNotFound, ErrDisabled, ErrInvalidState, ErrAccessDenied,
// ErrValidation, ErrLimit, and those that are ErrKeyUnavailable.
func (m *Manager) GenerateDataKey(ctx context.Context, by Caller, in GenerateDataKeyInput) (DataKey, error) {
	return m.generateDataKey(ctx, by, in, "GenerateDataKey")
}

// GenerateDataKeyWithoutPlaintext is GenerateDataKey for callers that need no key in clear now: DataKey.Plaintext is nil.
func (m *Manager) GenerateDataKeyWithoutPlaintext(ctx context.Context, by Caller, in GenerateDataKeyInput) (DataKey, error) {
	out, err := m.generateDataKey(ctx, by, in, "GenerateDataKeyWithoutPlaintext")
	clear(out.Plaintext)
	out.Plaintext = nil
	return out, err
}

func (m *Manager) generateDataKey(ctx context.Context, by Caller, in GenerateDataKeyInput, operation string) (DataKey, error) {
	u := &Use{Operation: operation, Key: printable(in.KeyID), Context: in.Context}
	var out DataKey
	u.parameter("numberOfBytes", in.Bytes)
	err := checkRange("numberOfBytes", in.Bytes, 1, MaxDataKey)
	if err == nil {
		out.Plaintext = make([]byte, in.Bytes)
		_, _ = rand.Read(out.Plaintext) // crypto/rand.Read never fails
		var made sealedUnder
		made, err = m.encrypt(ctx, by, out.Plaintext, ask{key: in.KeyID, context: &in.Context, tokens: in.Tokens, dryRun: in.DryRun}, u)
		out.Blob, out.KeyID, out.MaterialID = made.blob, made.arn, made.material
	}
	if err = m.record(ctx, by, u, err); err != nil {
		clear(out.Plaintext)
		return DataKey{}, err
	}
	return out, nil
}

// Encrypt encrypts up to MaxPlaintext bytes under the key's current version. Errors as GenerateDataKey.
func (m *Manager) Encrypt(ctx context.Context, by Caller, in EncryptInput) (EncryptOutput, error) {
	u := &Use{Operation: "Encrypt", Key: printable(in.KeyID), Context: in.Context}
	u.parameter("encryptionAlgorithm", algorithm)
	made, err := m.encrypt(ctx, by, in.Plaintext, ask{key: in.KeyID, context: &in.Context, tokens: in.Tokens, dryRun: in.DryRun}, u)
	if err = m.record(ctx, by, u, err); err != nil {
		return EncryptOutput{}, err
	}
	return EncryptOutput{Blob: made.blob, KeyID: made.arn}, nil
}

// Decrypt opens a blob. Errors: ErrInvalidCiphertext (blob or context), ErrAccessDenied (unknown key), ErrIncorrectKey, ErrDisabled, ErrInvalidState,
// ErrValidation, and those that are ErrKeyUnavailable.
func (m *Manager) Decrypt(ctx context.Context, by Caller, in DecryptInput) (DecryptOutput, error) {
	u := &Use{Operation: "Decrypt", Key: printable(in.KeyID), Context: in.Context}
	u.parameter("encryptionAlgorithm", algorithm)
	out, err := m.decrypt(ctx, by, in.Blob, "Decrypt", ask{key: in.KeyID, context: &in.Context, tokens: in.Tokens, dryRun: in.DryRun}, u)
	if err = m.record(ctx, by, u, err); err != nil {
		clear(out.Plaintext)
		return DecryptOutput{}, err
	}
	return out, nil
}

// ReEncrypt moves the content of a blob under another key, version or context without showing it. Errors as Decrypt and Encrypt.
func (m *Manager) ReEncrypt(ctx context.Context, by Caller, in ReEncryptInput) (ReEncryptOutput, error) {
	u := &Use{Operation: "ReEncrypt", Key: printable(in.SourceKeyID), Context: in.SourceContext,
		DestinationKey: printable(in.DestinationKeyID), DestinationContext: in.DestinationContext}
	u.parameter("sourceEncryptionAlgorithm", algorithm)
	u.parameter("destinationEncryptionAlgorithm", algorithm)
	out, err := m.reEncrypt(ctx, by, in, u)
	if err = m.record(ctx, by, u, err); err != nil {
		return ReEncryptOutput{}, err
	}
	return out, nil
}

func (m *Manager) reEncrypt(ctx context.Context, by Caller, in ReEncryptInput, u *Use) (ReEncryptOutput, error) {
	to := &Use{Operation: "ReEncryptTo"}
	if err := checkLength("destinationKeyId", in.DestinationKeyID, 1, MaxKeyID, true); err != nil {
		return ReEncryptOutput{}, err
	}
	same, err := m.sameKey(ctx, in)
	if err != nil {
		return ReEncryptOutput{}, err
	}
	onSame := func(c *policy.Context) { c.Bool("kms:ReEncryptOnSameKey", same) }
	from, err := m.decrypt(ctx, by, in.Blob, "ReEncryptFrom", ask{key: in.SourceKeyID, context: &in.SourceContext, tokens: in.Tokens, conditions: onSame}, u)
	defer clear(from.Plaintext)
	if err != nil {
		return ReEncryptOutput{}, err
	}
	made, err := m.encrypt(ctx, by, from.Plaintext, ask{key: in.DestinationKeyID, context: &in.DestinationContext, tokens: in.Tokens, conditions: onSame, dryRun: in.DryRun}, to)
	if to.Key != "" {
		u.DestinationKey, u.DestinationVersion = to.Key, to.Version
	}
	u.Decision, u.Reason = to.Decision, u.Reason+"; "+to.Reason
	if err != nil {
		return ReEncryptOutput{}, err
	}
	return ReEncryptOutput{Blob: made.blob, SourceKeyID: from.KeyID, KeyID: made.arn, SourceMaterialID: from.MaterialID, DestinationMaterialID: made.material}, nil
}

// sameKey reports whether a blob is moved to the key that made it. What is wrong with the blob is for decrypt to say.
func (m *Manager) sameKey(ctx context.Context, in ReEncryptInput) (bool, error) {
	destination, err := m.resolve(ctx, in.DestinationKeyID, true)
	if err != nil {
		return false, err
	}
	parsed, err := parseBlob(in.Blob)
	if err != nil {
		return false, nil
	}
	k, _, err := m.byMaterial(ctx, parsed.material)
	return err == nil && k.id == destination.id, nil
}

// GenerateRandom returns n random bytes, 1 to MaxDataKey. ErrValidation, ErrRecord.
func (m *Manager) GenerateRandom(ctx context.Context, by Caller, n int) ([]byte, error) {
	u := &Use{Operation: "GenerateRandom"}
	err := checkRange("numberOfBytes", n, 1, MaxDataKey)
	var out []byte
	if err == nil {
		err = m.authorise(ctx, by, u, u.Operation, nil, "", ask{})
	}
	if err == nil {
		u.Decision = Allow
		out = make([]byte, n)
		_, _ = rand.Read(out)
	}
	if err = m.record(ctx, by, u, err); err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}

// sealedUnder is a blob and what made it.
type sealedUnder struct {
	blob          []byte
	arn, material string
}

// encrypt does the work of Encrypt and fills in u; nothing is recorded.
func (m *Manager) encrypt(ctx context.Context, by Caller, plaintext []byte, a ask, u *Use) (sealedUnder, error) {
	if n := len(plaintext); n < 1 || n > MaxPlaintext {
		return sealedUnder{}, fault(ErrValidation, "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length between 1 and %d", MaxPlaintext)
	}
	k, err := m.resolve(ctx, a.key, true)
	if err != nil {
		return sealedUnder{}, err
	}
	v := k.current()
	if v != nil { // else the key's state refuses it, below
		u.uses(k, v)
	} else {
		u.Key = k.id.ARN()
	}
	if err := checkForwarded(by, *a.context); err != nil {
		return sealedUnder{}, err
	}
	if err := m.authorise(ctx, by, u, u.Operation, k, "", a); err != nil {
		return sealedUnder{}, err
	}
	if err := k.allows(u.Operation); err != nil {
		return sealedUnder{}, err
	}
	aad, err := blobAAD(v.material, *a.context)
	if err != nil {
		return sealedUnder{}, err
	}
	if a.dryRun {
		u.Decision = Allow
		return sealedUnder{}, errDryRun()
	}
	if err := m.uses.take(ctx, k, v); err != nil {
		return sealedUnder{}, err
	}
	u.Decision = Allow
	sealed, err := m.token.Encrypt(m.forToken(ctx, by), v.tokenKey, plaintext, aad)
	if err != nil {
		return sealedUnder{}, tokenFault(err, k.id.ARN())
	}
	b, err := encodeBlob(blob{material: v.material, sealed: sealed})
	if err != nil {
		return sealedUnder{}, fmt.Errorf("encrypt under %s: %w", k.id.ARN(), err)
	}
	return sealedUnder{b, k.id.ARN(), v.material.String()}, nil
}

// decrypt does the work of Decrypt and fills in u; nothing is recorded.
func (m *Manager) decrypt(ctx context.Context, by Caller, ciphertext []byte, operation string, a ask, u *Use) (DecryptOutput, error) {
	if n := len(ciphertext); n < 1 || n > MaxBlob {
		return DecryptOutput{}, fault(ErrValidation, "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length between 1 and %d", MaxBlob)
	}
	parsed, err := parseBlob(ciphertext)
	if err != nil {
		return DecryptOutput{}, &Fault{Class: ErrInvalidCiphertext, Cause: err}
	}
	k, v, err := m.byMaterial(ctx, parsed.material)
	if err != nil {
		return DecryptOutput{}, err
	}
	u.uses(k, v)
	if err := m.checkDemandedKey(ctx, a.key, k); err != nil {
		return DecryptOutput{}, err
	}
	if err := checkForwarded(by, *a.context); err != nil {
		return DecryptOutput{}, err
	}
	err = m.authorise(ctx, by, u, operation, k, "", a)
	if err != nil && a.key == "" && errors.Is(err, ErrAccessDenied) {
		err = fault(ErrAccessDenied, denied)
	}
	if err != nil {
		return DecryptOutput{}, err
	}
	if err := k.allows(operation); err != nil {
		return DecryptOutput{}, err
	}
	if err := v.gone(k.id.ARN()); err != nil {
		return DecryptOutput{}, err
	}
	aad, err := blobAAD(v.material, *a.context)
	if err != nil {
		return DecryptOutput{}, err
	}
	u.Decision = Allow
	plaintext, err := m.token.Decrypt(m.forToken(ctx, by), v.tokenKey, parsed.sealed, aad)
	if err != nil {
		return DecryptOutput{}, tokenFault(err, k.id.ARN())
	}
	if a.dryRun {
		clear(plaintext)
		return DecryptOutput{}, errDryRun()
	}
	return DecryptOutput{Plaintext: plaintext, KeyID: k.id.ARN(), MaterialID: v.material.String(), Version: v.number}, nil
}

// checkDemandedKey is nil if name is empty or names k.
func (m *Manager) checkDemandedKey(ctx context.Context, name string, k *cmk) error {
	if name == "" {
		return nil
	}
	demanded, err := m.resolve(ctx, name, true)
	if err != nil {
		return err
	}
	if demanded.id != k.id {
		return fault(ErrIncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	return nil
}
