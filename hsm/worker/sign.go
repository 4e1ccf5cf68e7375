package worker

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Signer = (*Client)(nil)

// GenerateSigningKey implements hsm.Signer. When the worker dies meanwhile it is
// not repeated: hsm.ErrTokenAway, and FindSigningKey tells what came of it.
func (c *Client) GenerateSigningKey(ctx context.Context, id hsm.KeyID, label string) (hsm.SigningKey, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.SigningKey{}, fmt.Errorf("generate signing key %s: %w", id, err)
	}
	return c.signingKey(ctx, &request{Op: opGenerateSigning, Key: id, Label: label}, once)
}

// FindSigningKey implements hsm.Signer.
func (c *Client) FindSigningKey(ctx context.Context, id hsm.KeyID) (hsm.SigningKey, error) {
	return c.signingKey(ctx, &request{Op: opFindSigning, Key: id}, twice)
}

func (c *Client) signingKey(ctx context.Context, req *request, sends int) (hsm.SigningKey, error) {
	rep, _, err := c.call(ctx, req, nil, sends)
	if err != nil {
		return hsm.SigningKey{}, err
	}
	if rep.Signing == nil || rep.Signing.ID != req.Key {
		return hsm.SigningKey{}, errReply
	}
	return *rep.Signing, nil
}

// Sign implements hsm.Signer.
func (c *Client) Sign(ctx context.Context, id hsm.KeyID, message []byte) ([]byte, error) {
	if err := hsm.CheckMessage(message); err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", id, err)
	}
	rep, _, err := c.call(ctx, &request{Op: opSign, Key: id, Message: message}, nil, twice)
	if err != nil {
		return nil, err
	}
	return rep.Signature, nil
}

// DestroySigningKey implements hsm.Signer, with the limits of DestroyKey.
func (c *Client) DestroySigningKey(ctx context.Context, id hsm.KeyID) error {
	_, _, err := c.call(ctx, &request{Op: opDestroySigning, Key: id}, nil, once)
	return err
}
