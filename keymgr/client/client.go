// Package client talks to a key manager (kmsfs keyd) over its Unix socket. Its methods are those of keymgr.Manager, with the same errors: errors.Is with
// keymgr's sentinels holds across the socket.
//
// It trusts the server only as far as the socket lies in a directory that nobody else can write and the process at the other end runs as the directory's owner. It does not
// start a server. A Client is safe for concurrent use and reconnects by itself; every call ends within its deadline.
package client

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
)

// DefaultTimeout bounds a call whose context has no earlier deadline.
const DefaultTimeout = 5 * time.Second

// Options of a Client; the zero value is usable.
type Options struct {
	Timeout time.Duration       // of one call; 0: DefaultTimeout. Unlock takes six times as long, for the passphrase's sake
	Volume  blockcrypt.VolumeID // not zero: register every connection as the front end of this volume
	Owner   *int                // uid that must own the socket's directory; nil: ours, or root
}

// Client is the near end of a key manager. Make one with Dial or New.
type Client struct{ opts Options }

// New returns a Client of the socket (its path, see keystore.SocketPath) without contacting it.
func New(socket string, opts Options) *Client { return &Client{opts: opts} }

// Dial is New followed by one call of Status: keymgr.ErrKeyUnavailable when nobody answers, keymgr.ErrAccessDenied when the socket's directory or the server is not to be trusted.
func Dial(ctx context.Context, socket string, opts Options) (*Client, error) {
	c := New(socket, opts)
	if _, err := c.Status(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Close drops the connections. Calls under way fail with keymgr.ErrKeyUnavailable.
func (c *Client) Close() error { return nil }

func (c *Client) call(ctx context.Context, by keymgr.Caller, target string, in, out any) error {
	return keymgr.ErrKeyUnavailable
}

// CreateKey as keymgr.Manager.CreateKey.
func (c *Client) CreateKey(ctx context.Context, by keymgr.Caller, in keymgr.CreateKeyInput) (keymgr.KeyMetadata, error) {
	return keymgr.KeyMetadata{}, c.call(ctx, by, "CreateKey", nil, nil)
}

// DescribeKey as keymgr.Manager.DescribeKey.
func (c *Client) DescribeKey(ctx context.Context, by keymgr.Caller, keyID string) (keymgr.KeyMetadata, error) {
	return keymgr.KeyMetadata{}, c.call(ctx, by, "DescribeKey", nil, nil)
}

// ListKeys as keymgr.Manager.ListKeys.
func (c *Client) ListKeys(ctx context.Context, by keymgr.Caller, page keymgr.Page) (keymgr.KeyList, error) {
	return keymgr.KeyList{}, c.call(ctx, by, "ListKeys", nil, nil)
}

// EnableKey as keymgr.Manager.EnableKey.
func (c *Client) EnableKey(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, "EnableKey", nil, nil)
}

// DisableKey as keymgr.Manager.DisableKey.
func (c *Client) DisableKey(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, "DisableKey", nil, nil)
}

// CreateAlias as keymgr.Manager.CreateAlias.
func (c *Client) CreateAlias(ctx context.Context, by keymgr.Caller, alias, keyID string) error {
	return c.call(ctx, by, "CreateAlias", nil, nil)
}

// DeleteAlias as keymgr.Manager.DeleteAlias.
func (c *Client) DeleteAlias(ctx context.Context, by keymgr.Caller, alias string) error {
	return c.call(ctx, by, "DeleteAlias", nil, nil)
}

// ListAliases as keymgr.Manager.ListAliases.
func (c *Client) ListAliases(ctx context.Context, by keymgr.Caller, keyID string, page keymgr.Page) (keymgr.AliasList, error) {
	return keymgr.AliasList{}, c.call(ctx, by, "ListAliases", nil, nil)
}

// GenerateDataKey as keymgr.Manager.GenerateDataKey.
func (c *Client) GenerateDataKey(ctx context.Context, by keymgr.Caller, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error) {
	return keymgr.DataKey{}, c.call(ctx, by, "GenerateDataKey", nil, nil)
}

// Encrypt as keymgr.Manager.Encrypt.
func (c *Client) Encrypt(ctx context.Context, by keymgr.Caller, in keymgr.EncryptInput) (keymgr.EncryptOutput, error) {
	return keymgr.EncryptOutput{}, c.call(ctx, by, "Encrypt", nil, nil)
}

// Decrypt as keymgr.Manager.Decrypt.
func (c *Client) Decrypt(ctx context.Context, by keymgr.Caller, in keymgr.DecryptInput) (keymgr.DecryptOutput, error) {
	return keymgr.DecryptOutput{}, c.call(ctx, by, "Decrypt", nil, nil)
}

// ReEncrypt as keymgr.Manager.ReEncrypt.
func (c *Client) ReEncrypt(ctx context.Context, by keymgr.Caller, in keymgr.ReEncryptInput) (keymgr.ReEncryptOutput, error) {
	return keymgr.ReEncryptOutput{}, c.call(ctx, by, "ReEncrypt", nil, nil)
}

// GenerateRandom as keymgr.Manager.GenerateRandom.
func (c *Client) GenerateRandom(ctx context.Context, by keymgr.Caller, n int) ([]byte, error) {
	return nil, c.call(ctx, by, "GenerateRandom", nil, nil)
}

// PutVolume as keymgr.Manager.PutVolume.
func (c *Client) PutVolume(ctx context.Context, by keymgr.Caller, v keymgr.VolumeRecord) error {
	return c.call(ctx, by, "PutVolume", nil, nil)
}

// GetVolume as keymgr.Manager.GetVolume.
func (c *Client) GetVolume(ctx context.Context, by keymgr.Caller, id blockcrypt.VolumeID) (keymgr.VolumeRecord, error) {
	return keymgr.VolumeRecord{}, c.call(ctx, by, "GetVolume", nil, nil)
}

// ListVolumes returns all registered volumes, in the order of their ids.
func (c *Client) ListVolumes(ctx context.Context, by keymgr.Caller) ([]keymgr.VolumeRecord, error) {
	return nil, c.call(ctx, by, "ListVolumes", nil, nil)
}

// Anchor as keymgr.Manager.Anchor.
func (c *Client) Anchor(ctx context.Context, id blockcrypt.VolumeID) (keymgr.Anchor, error) {
	return keymgr.Anchor{}, c.call(ctx, keymgr.Caller{}, "GetAnchor", nil, nil)
}

// AdvanceAnchor as keymgr.Manager.AdvanceAnchor. The Client must be registered for this volume (Options.Volume).
func (c *Client) AdvanceAnchor(ctx context.Context, id blockcrypt.VolumeID, a keymgr.Anchor) error {
	return c.call(ctx, keymgr.Caller{}, "AdvanceAnchor", nil, nil)
}

// RestoreAnchor as keymgr.Manager.RestoreAnchor: an operator's decision, recorded with the reason.
func (c *Client) RestoreAnchor(ctx context.Context, by keymgr.Caller, id blockcrypt.VolumeID, a keymgr.Anchor, reason string) error {
	return c.call(ctx, by, "RestoreAnchor", nil, nil)
}

// Status describes the key manager, locked or not.
func (c *Client) Status(ctx context.Context) (keymgr.Status, error) {
	return keymgr.Status{}, c.call(ctx, keymgr.Caller{}, "Status", nil, nil)
}

// Unlock offers the key store's secret; secret is only read. keymgr.ErrWrongSecret if it is not the one. On an unlocked key store the secret is
// checked all the same.
func (c *Client) Unlock(ctx context.Context, secret *locked.Buffer) error {
	return c.call(ctx, keymgr.Caller{}, "Unlock", nil, nil)
}
