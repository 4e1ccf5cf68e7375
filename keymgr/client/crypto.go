package client

import (
	"context"
	"os"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// through is the caller of a request that uses a key: what a front end asks in its own name for its volume comes through the file daemon, too.
func (c *Client) through(by keymgr.Caller, about keymgr.Context) keymgr.Caller {
	if by.Via == "" && (c.opts.FrontEnd != nil || c.opts.FrontEndRight) && about[keymgr.ContextVolume] == c.opts.Volume.String() {
		return keymgr.Caller{UID: os.Geteuid(), GID: os.Getegid(), PID: os.Getpid(), Via: keymgr.ViaFileDaemon}
	}
	return by
}

// GenerateDataKey as keymgr.Manager.GenerateDataKey.
func (c *Client) GenerateDataKey(ctx context.Context, by keymgr.Caller, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error) {
	return c.dataKey(ctx, by, "GenerateDataKey", in)
}

// GenerateDataKeyWithoutPlaintext as keymgr.Manager.GenerateDataKeyWithoutPlaintext.
func (c *Client) GenerateDataKeyWithoutPlaintext(ctx context.Context, by keymgr.Caller, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error) {
	return c.dataKey(ctx, by, "GenerateDataKeyWithoutPlaintext", in)
}

func (c *Client) dataKey(ctx context.Context, by keymgr.Caller, operation string, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error) {
	var out wire.GenerateDataKeyResponse
	err := c.call(ctx, c.through(by, in.Context), wire.ServiceAWS+operation, wire.GenerateDataKeyRequest{KeyId: in.KeyID, NumberOfBytes: &in.Bytes, EncryptionContext: in.Context, GrantTokens: in.Tokens, DryRun: in.DryRun}, &out)
	if err != nil {
		wire.Wipe(&out)
		return keymgr.DataKey{}, err
	}
	return keymgr.DataKey{Plaintext: out.Plaintext, Blob: out.CiphertextBlob, KeyID: out.KeyId, MaterialID: out.KeyMaterialId}, nil
}

// Encrypt as keymgr.Manager.Encrypt.
func (c *Client) Encrypt(ctx context.Context, by keymgr.Caller, in keymgr.EncryptInput) (keymgr.EncryptOutput, error) {
	var out wire.EncryptResponse
	err := c.call(ctx, c.through(by, in.Context), wire.ServiceAWS+"Encrypt", wire.EncryptRequest{KeyId: in.KeyID, EncryptionContext: in.Context, GrantTokens: in.Tokens, DryRun: in.DryRun, Plaintext: in.Plaintext}, &out)
	return keymgr.EncryptOutput{Blob: out.CiphertextBlob, KeyID: out.KeyId}, err
}

// Decrypt as keymgr.Manager.Decrypt.
func (c *Client) Decrypt(ctx context.Context, by keymgr.Caller, in keymgr.DecryptInput) (keymgr.DecryptOutput, error) {
	var out wire.DecryptResponse
	err := c.call(ctx, c.through(by, in.Context), wire.ServiceAWS+"Decrypt", wire.DecryptRequest{CiphertextBlob: in.Blob, KeyId: in.KeyID, EncryptionContext: in.Context, GrantTokens: in.Tokens, DryRun: in.DryRun}, &out)
	if err != nil {
		wire.Wipe(&out)
		return keymgr.DecryptOutput{}, err
	}
	return keymgr.DecryptOutput{Plaintext: out.Plaintext, KeyID: out.KeyId, MaterialID: out.KeyMaterialId, Version: out.KmsfsVersion}, nil
}

// ReEncrypt as keymgr.Manager.ReEncrypt.
func (c *Client) ReEncrypt(ctx context.Context, by keymgr.Caller, in keymgr.ReEncryptInput) (keymgr.ReEncryptOutput, error) {
	var out wire.ReEncryptResponse
	err := c.call(ctx, c.through(by, in.SourceContext), wire.ServiceAWS+"ReEncrypt", wire.ReEncryptRequest{CiphertextBlob: in.Blob, SourceKeyId: in.SourceKeyID,
		SourceEncryptionContext: in.SourceContext, DestinationKeyId: in.DestinationKeyID, DestinationEncryptionContext: in.DestinationContext,
		GrantTokens: in.Tokens, DryRun: in.DryRun}, &out)
	return keymgr.ReEncryptOutput{Blob: out.CiphertextBlob, SourceKeyID: out.SourceKeyId, KeyID: out.KeyId,
		SourceMaterialID: out.SourceKeyMaterialId, DestinationMaterialID: out.DestinationKeyMaterialId}, err
}

// GenerateRandom as keymgr.Manager.GenerateRandom.
func (c *Client) GenerateRandom(ctx context.Context, by keymgr.Caller, n int) ([]byte, error) {
	var out wire.GenerateRandomResponse
	err := c.call(ctx, by, wire.ServiceAWS+"GenerateRandom", wire.GenerateRandomRequest{NumberOfBytes: &n}, &out)
	return out.Plaintext, err
}
