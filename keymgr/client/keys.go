package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// CreateKey as keymgr.Manager.CreateKey.
func (c *Client) CreateKey(ctx context.Context, by keymgr.Caller, in keymgr.CreateKeyInput) (keymgr.KeyMetadata, error) {
	var out wire.KeyMetadataResponse
	err := c.call(ctx, by, wire.ServiceAWS+"CreateKey", wire.CreateKeyRequest{Description: in.Description, KmsfsAlias: in.Alias, Tags: wire.FromTags(in.Tags),
		Policy: in.Policy, BypassPolicyLockoutSafetyCheck: in.Bypass, Origin: in.Origin}, &out)
	return out.KeyMetadata.Metadata(), err
}

// ManagedKey as keymgr.Manager.ManagedKey.
func (c *Client) ManagedKey(ctx context.Context, by keymgr.Caller) (keymgr.KeyMetadata, error) {
	var out wire.KeyMetadataResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+"GetManagedKey", nil, &out)
	return out.KeyMetadata.Metadata(), err
}

// DescribeKey as keymgr.Manager.DescribeKey.
func (c *Client) DescribeKey(ctx context.Context, by keymgr.Caller, keyID string, tokens ...string) (keymgr.KeyMetadata, error) {
	var out wire.KeyMetadataResponse
	err := c.call(ctx, by, wire.ServiceAWS+"DescribeKey", wire.DescribeKeyRequest{KeyId: keyID, GrantTokens: tokens}, &out)
	return out.KeyMetadata.Metadata(), err
}

// ListKeys as keymgr.Manager.ListKeys.
func (c *Client) ListKeys(ctx context.Context, by keymgr.Caller, page keymgr.Page) (keymgr.KeyList, error) {
	var out wire.ListKeysResponse
	err := c.call(ctx, by, wire.ServiceAWS+"ListKeys", wire.ListRequest{Limit: page.Limit, Marker: page.Marker}, &out)
	list := keymgr.KeyList{NextMarker: out.NextMarker}
	for _, k := range out.Keys {
		list.Keys = append(list.Keys, keymgr.KeyEntry{KeyID: k.KeyId, ARN: k.KeyArn})
	}
	return list, err
}

// EnableKey as keymgr.Manager.EnableKey.
func (c *Client) EnableKey(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"EnableKey", wire.KeyRequest{KeyId: keyID}, nil)
}

// DisableKey as keymgr.Manager.DisableKey.
func (c *Client) DisableKey(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"DisableKey", wire.KeyRequest{KeyId: keyID}, nil)
}

// RotateKeyOnDemand as keymgr.Manager.RotateKeyOnDemand.
func (c *Client) RotateKeyOnDemand(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"RotateKeyOnDemand", wire.KeyRequest{KeyId: keyID}, nil)
}

// CreateAlias as keymgr.Manager.CreateAlias.
func (c *Client) CreateAlias(ctx context.Context, by keymgr.Caller, alias, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"CreateAlias", wire.AliasRequest{AliasName: alias, TargetKeyId: keyID}, nil)
}

// DeleteAlias as keymgr.Manager.DeleteAlias.
func (c *Client) DeleteAlias(ctx context.Context, by keymgr.Caller, alias string) error {
	return c.call(ctx, by, wire.ServiceAWS+"DeleteAlias", wire.AliasRequest{AliasName: alias}, nil)
}

// ListAliases as keymgr.Manager.ListAliases.
func (c *Client) ListAliases(ctx context.Context, by keymgr.Caller, keyID string, page keymgr.Page) (keymgr.AliasList, error) {
	var out wire.ListAliasesResponse
	err := c.call(ctx, by, wire.ServiceAWS+"ListAliases", wire.ListRequest{KeyId: keyID, Limit: page.Limit, Marker: page.Marker}, &out)
	list := keymgr.AliasList{NextMarker: out.NextMarker}
	for _, a := range out.Aliases {
		list.Aliases = append(list.Aliases, keymgr.AliasEntry{Name: a.AliasName, ARN: a.AliasArn, TargetKeyID: a.TargetKeyId,
			Created: a.CreationDate.Time, Updated: a.LastUpdatedDate.Time})
	}
	return list, err
}
