package kms

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Signer = (*Token)(nil)

// A signing key is Ed25519 here, as the keys there are symmetric: its seed is wrapped by a key there, and kept in that key's description with the public key:
//
//	"kmsfs signing key " || base64(public x[32]) || " " || base64(blob of the seed x[32])
const signingPrefix = "kmsfs signing key "

func signingAlias(id hsm.KeyID) *string { return aws.String("alias/kmsfs-sign-" + id.String()) }

// signingAAD is what the wrapped seed is bound to, beside its id.
var signingAAD = []byte("kmsfs signing key")

// GenerateSigningKey implements hsm.Signer. While it is used, the seed is in this process' memory.
func (t *Token) GenerateSigningKey(ctx context.Context, id hsm.KeyID, label string) (hsm.SigningKey, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.SigningKey{}, fmt.Errorf("generate signing key %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := t.FindSigningKey(ctx, id); !errors.Is(err, hsm.ErrKeyNotFound) {
		if err == nil {
			err = hsm.ErrExists
		}
		return hsm.SigningKey{}, fmt.Errorf("generate signing key %s: %w", id, err)
	}
	public, err := t.makeSigningKey(ctx, id)
	if err != nil {
		return hsm.SigningKey{}, fmt.Errorf("generate signing key %s: %w", id, classify(err))
	}
	return hsm.SigningKey{ID: id, Label: label, Algorithm: hsm.Ed25519, Public: public}, nil
}

// makeSigningKey makes the key there, and gives it its alias when all else is in its place.
func (t *Token) makeSigningKey(ctx context.Context, id hsm.KeyID) (ed25519.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	made, err := t.sdk.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		return nil, err
	}
	remote := made.KeyMetadata.KeyId
	sealed, err := t.sdk.Encrypt(ctx, &kms.EncryptInput{KeyId: remote, Plaintext: private.Seed(), EncryptionContext: t.bind(id, signingAAD)})
	if err == nil {
		_, err = t.sdk.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: remote, Description: aws.String(signingPrefix +
			base64.StdEncoding.EncodeToString(public) + " " + base64.StdEncoding.EncodeToString(sealed.CiphertextBlob))})
	}
	if err == nil {
		_, err = t.sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: signingAlias(id), TargetKeyId: remote})
	}
	if err != nil {
		_, _ = t.sdk.ScheduleKeyDeletion(context.WithoutCancel(ctx), &kms.ScheduleKeyDeletionInput{KeyId: remote, PendingWindowInDays: aws.Int32(7)})
	}
	return public, err
}

// findSigningKey reads what is kept of a signing key.
func (t *Token) findSigningKey(ctx context.Context, id hsm.KeyID) (public, blob []byte, err error) {
	out, err := t.sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: signingAlias(id)})
	if err != nil {
		return nil, nil, classify(err)
	}
	rest, ok := strings.CutPrefix(aws.ToString(out.KeyMetadata.Description), signingPrefix)
	first, second, both := strings.Cut(rest, " ")
	public, perr := base64.StdEncoding.DecodeString(first)
	blob, berr := base64.StdEncoding.DecodeString(second)
	if !ok || !both || perr != nil || berr != nil || len(public) != ed25519.PublicKeySize {
		return nil, nil, fmt.Errorf("%w: its description there is not what was written", hsm.ErrDamaged)
	}
	return public, blob, nil
}

// FindSigningKey implements hsm.Signer.
func (t *Token) FindSigningKey(ctx context.Context, id hsm.KeyID) (hsm.SigningKey, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	public, _, err := t.findSigningKey(ctx, id)
	if err != nil {
		return hsm.SigningKey{}, fmt.Errorf("find signing key %s: %w", id, err)
	}
	return hsm.SigningKey{ID: id, Algorithm: hsm.Ed25519, Public: public}, nil
}

// Sign implements hsm.Signer: each time the other key manager is asked for the seed, and may refuse.
func (t *Token) Sign(ctx context.Context, id hsm.KeyID, message []byte) ([]byte, error) {
	if err := hsm.CheckMessage(message); err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, blob, err := t.findSigningKey(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", id, err)
	}
	out, err := t.sdk.Decrypt(ctx, &kms.DecryptInput{KeyId: signingAlias(id), CiphertextBlob: blob, EncryptionContext: t.bind(id, signingAAD)})
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", id, classify(err))
	}
	defer clear(out.Plaintext)
	if len(out.Plaintext) != ed25519.SeedSize {
		return nil, fmt.Errorf("sign with key %s: %w: a seed of %d bytes", id, hsm.ErrDamaged, len(out.Plaintext))
	}
	private := ed25519.NewKeyFromSeed(out.Plaintext)
	defer clear(private)
	return ed25519.Sign(private, message), nil
}

// DestroySigningKey implements hsm.Signer, as DestroyKey.
func (t *Token) DestroySigningKey(ctx context.Context, id hsm.KeyID) error {
	if err := t.destroy(ctx, signingAlias(id)); err != nil {
		return fmt.Errorf("destroy signing key %s: %w", id, err)
	}
	return nil
}
