package kms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

// BindingSize is the length of Config.Binding, in bytes.
const BindingSize = 32

// contextName is the one name in the encryption contexts that the other key manager sees.
const contextName = "kmsfs:binding"

// callTimeout bounds one call with its repetitions.
const callTimeout = 10 * time.Second

// Config says how to reach the other key manager.
type Config struct {
	Location Location
	Secret   *locked.Buffer // JSON with AccessKeyId and SecretAccessKey; only read
	Binding  []byte         // random, BindingSize bytes, the same for as long as the keys are used; copied
}

// Token implements hsm.Token and is safe for concurrent use. Close ends it for nobody else.
type Token struct {
	sdk      *kms.Client
	location Location
	binding  []byte
}

var (
	_ hsm.Token     = (*Token)(nil)
	_ hsm.Forwarder = (*Token)(nil)
)

// accessKey is what `kmsfs identity create --json` prints, or `aws iam create-access-key`.
type accessKey struct {
	AccessKeyID string     `json:"AccessKeyId"`
	Secret      string     `json:"SecretAccessKey"`
	Nested      *accessKey `json:"AccessKey"`
}

func parseSecret(b []byte) (aws.Credentials, error) {
	var k accessKey
	if err := json.Unmarshal(b, &k); err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: the access key is not JSON with AccessKeyId and SecretAccessKey", hsm.ErrPIN)
	}
	if k.Nested != nil {
		k = *k.Nested
	}
	if k.AccessKeyID == "" || k.Secret == "" {
		return aws.Credentials{}, fmt.Errorf("%w: the access key lacks AccessKeyId or SecretAccessKey", hsm.ErrPIN)
	}
	return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.Secret}, nil
}

// Open makes the token and asks the other key manager whether it knows the access key. Errors: hsm.ErrPIN, hsm.ErrTokenAway.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	credentials, err := parseSecret(cfg.Secret.Bytes())
	if err != nil {
		return nil, err
	}
	if len(cfg.Binding) != BindingSize {
		return nil, fmt.Errorf("%w: a binding of %d bytes", hsm.ErrModule, len(cfg.Binding))
	}
	opts := kms.Options{Region: cfg.Location.Region, RetryMaxAttempts: 3,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })}
	if cfg.Location.Endpoint != "" {
		opts.BaseEndpoint = aws.String(cfg.Location.Endpoint)
	}
	t := &Token{sdk: kms.New(opts), location: cfg.Location, binding: append([]byte(nil), cfg.Binding...)}
	if _, err := t.Info(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Location, err)
	}
	return t, nil
}

func alias(id hsm.KeyID) *string { return aws.String("alias/kmsfs-" + id.String()) }

// bind is the encryption context there for an AAD here.
func (t *Token) bind(id hsm.KeyID, aad []byte) map[string]string {
	h := hmac.New(sha256.New, t.binding)
	h.Write(id[:])
	h.Write(aad)
	return map[string]string{contextName: hex.EncodeToString(h.Sum(nil))}
}

// Forwards implements hsm.Forwarder.
func (t *Token) Forwards() bool { return t.location.Forward }

// forUser has a call say for whom it is made, signed with it, where the other key manager is to be told.
func (t *Token) forUser(ctx context.Context) func(*kms.Options) {
	u := hsm.UserOf(ctx)
	return func(o *kms.Options) {
		if u != nil && t.location.Forward {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue(hsm.UserHeader, u.Encode()))
		}
	}
}

// GenerateKey implements hsm.Token. The label stays here: it may name things.
func (t *Token) GenerateKey(ctx context.Context, id hsm.KeyID, label string) (hsm.KeyInfo, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.KeyInfo{}, fmt.Errorf("generate key %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := t.FindKey(ctx, id); err == nil {
		return hsm.KeyInfo{}, fmt.Errorf("generate key %s: %w", id, hsm.ErrExists)
	} else if !errors.Is(err, hsm.ErrKeyNotFound) {
		return hsm.KeyInfo{}, err
	}
	made, err := t.sdk.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("kmsfs backing key")})
	if err != nil {
		return hsm.KeyInfo{}, fmt.Errorf("generate key %s: %w", id, classify(err))
	}
	remote := made.KeyMetadata.KeyId
	if _, err := t.sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias(id), TargetKeyId: remote}); err != nil {
		_, _ = t.sdk.ScheduleKeyDeletion(context.WithoutCancel(ctx), &kms.ScheduleKeyDeletionInput{KeyId: remote, PendingWindowInDays: aws.Int32(7)})
		return hsm.KeyInfo{}, fmt.Errorf("generate key %s: %w", id, classify(err))
	}
	info := keyInfo(id, made.KeyMetadata)
	info.Label = label
	return info, nil
}

// keyInfo describes a key by what the other key manager says. Its check value is of its name there, as its material cannot be used without a trace.
func keyInfo(id hsm.KeyID, md *types.KeyMetadata) hsm.KeyInfo {
	sum := sha256.Sum256([]byte(aws.ToString(md.Arn)))
	return hsm.KeyInfo{ID: id, Label: aws.ToString(md.Arn), CheckValue: sum[:3], Created: aws.ToTime(md.CreationDate).UTC()}
}

// FindKey implements hsm.Token. The label is the key's ARN there.
func (t *Token) FindKey(ctx context.Context, id hsm.KeyID) (hsm.KeyInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := t.sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias(id)})
	if err != nil {
		return hsm.KeyInfo{}, fmt.Errorf("find key %s: %w", id, classify(err))
	}
	return keyInfo(id, out.KeyMetadata), nil
}

// Encrypt implements hsm.Token.
func (t *Token) Encrypt(ctx context.Context, id hsm.KeyID, plaintext, aad []byte) (hsm.Sealed, error) {
	if err := hsm.CheckEncrypt(plaintext, aad); err != nil {
		return hsm.Sealed{}, fmt.Errorf("encrypt with key %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := t.sdk.Encrypt(ctx, &kms.EncryptInput{KeyId: alias(id), Plaintext: plaintext, EncryptionContext: t.bind(id, aad)}, t.forUser(ctx))
	if err != nil {
		return hsm.Sealed{}, fmt.Errorf("encrypt with key %s: %w", id, classify(err))
	}
	return hsm.Sealed{Mechanism: hsm.RemoteKMS, Ciphertext: out.CiphertextBlob}, nil
}

// Decrypt implements hsm.Token.
func (t *Token) Decrypt(ctx context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	if s.Mechanism != hsm.RemoteKMS || len(s.IV) != 0 || len(s.Ciphertext) == 0 || len(s.Ciphertext) > hsm.MaxRemote || len(aad) > hsm.MaxAAD {
		return nil, fmt.Errorf("decrypt with key %s: %w: not of this token's making", id, hsm.ErrAuth)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := t.sdk.Decrypt(ctx, &kms.DecryptInput{KeyId: alias(id), CiphertextBlob: s.Ciphertext, EncryptionContext: t.bind(id, aad)}, t.forUser(ctx))
	if err != nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", id, classify(err))
	}
	return out.Plaintext, nil
}

// DestroyKey implements hsm.Token: the key is scheduled for deletion and cannot be used from then on.
func (t *Token) DestroyKey(ctx context.Context, id hsm.KeyID) error {
	if err := t.destroy(ctx, alias(id)); err != nil {
		return fmt.Errorf("destroy key %s: %w", id, err)
	}
	return nil
}

// destroy schedules the deletion of the key under an alias, and removes the alias.
func (t *Token) destroy(ctx context.Context, name *string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := t.sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: name})
	if err == nil {
		_, err = t.sdk.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: out.KeyMetadata.KeyId, PendingWindowInDays: aws.Int32(7)})
		var scheduled *types.KMSInvalidStateException
		if errors.As(err, &scheduled) {
			err = nil // by a call that was cut off
		}
	}
	if err == nil {
		_, err = t.sdk.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: name})
	}
	if err != nil {
		return classify(err)
	}
	return nil
}

// Info implements hsm.Token: it asks for a random number, which the access key must be good for.
func (t *Token) Info(ctx context.Context) (hsm.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := t.sdk.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)}); err != nil {
		return hsm.Info{}, classify(err)
	}
	return hsm.Info{Kind: hsm.KindKMS, Label: t.location.String(), Model: "key manager", Serial: t.location.String(), Mechanisms: []string{hsm.RemoteKMS}}, nil
}

// Close implements hsm.Token.
func (t *Token) Close() error { return nil }

// classify gives an answer of the other key manager its class here.
func classify(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", hsm.ErrTimeout, err)
		}
		return fmt.Errorf("%w: %w", hsm.ErrTokenAway, err)
	}
	class := hsm.ErrTokenAway
	switch api.ErrorCode() {
	case "NotFoundException":
		class = hsm.ErrKeyNotFound
	case "InvalidCiphertextException", "IncorrectKeyException":
		class = hsm.ErrAuth
	case "DisabledException", "KMSInvalidStateException", "AccessDeniedException":
		class = hsm.ErrRefused
	case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "IncompleteSignatureException", "InvalidClientTokenId":
		class = hsm.ErrPIN
	case "AlreadyExistsException":
		class = hsm.ErrExists
	case "ValidationException", "UnsupportedOperationException":
		class = hsm.ErrUnfit
	}
	return fmt.Errorf("%w: %s: %s", class, api.ErrorCode(), api.ErrorMessage())
}
