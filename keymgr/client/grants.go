package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// CreateGrant as keymgr.Manager.CreateGrant.
func (c *Client) CreateGrant(ctx context.Context, by keymgr.Caller, in keymgr.CreateGrantInput) (keymgr.NewGrant, error) {
	var out wire.CreateGrantResponse
	err := c.call(ctx, by, wire.ServiceAWS+"CreateGrant", wire.CreateGrantRequest{KeyId: in.KeyID, GranteePrincipal: in.Grantee, RetiringPrincipal: in.Retiring,
		Operations: in.Operations, GrantTokens: in.Tokens, Name: in.Name, DryRun: in.DryRun, KmsfsExpires: wire.Time{Time: in.Expires},
		Constraints: wire.GrantConstraints{EncryptionContextEquals: in.Constraints.Equals, EncryptionContextSubset: in.Constraints.Subset}}, &out)
	return keymgr.NewGrant{ID: out.GrantId, Token: out.GrantToken}, err
}

// ListGrants as keymgr.Manager.ListGrants.
func (c *Client) ListGrants(ctx context.Context, by keymgr.Caller, keyID string, filter keymgr.GrantFilter, page keymgr.Page) (keymgr.GrantList, error) {
	return c.grants(ctx, by, "ListGrants", wire.ListGrantsRequest{KeyId: keyID, GrantId: filter.ID, GranteePrincipal: filter.Grantee, Limit: page.Limit, Marker: page.Marker})
}

// ListRetirableGrants as keymgr.Manager.ListRetirableGrants.
func (c *Client) ListRetirableGrants(ctx context.Context, by keymgr.Caller, retiring string, page keymgr.Page) (keymgr.GrantList, error) {
	return c.grants(ctx, by, "ListRetirableGrants", wire.ListGrantsRequest{RetiringPrincipal: retiring, Limit: page.Limit, Marker: page.Marker})
}

func (c *Client) grants(ctx context.Context, by keymgr.Caller, operation string, in wire.ListGrantsRequest) (keymgr.GrantList, error) {
	var out wire.ListGrantsResponse
	err := c.call(ctx, by, wire.ServiceAWS+operation, in, &out)
	return out.List(), err
}

// RetireGrant as keymgr.Manager.RetireGrant.
func (c *Client) RetireGrant(ctx context.Context, by keymgr.Caller, in keymgr.RetireGrantInput) error {
	return c.call(ctx, by, wire.ServiceAWS+"RetireGrant", wire.RetireGrantRequest{GrantToken: in.Token, KeyId: in.KeyID, GrantId: in.ID, DryRun: in.DryRun}, nil)
}

// RevokeGrant as keymgr.Manager.RevokeGrant.
func (c *Client) RevokeGrant(ctx context.Context, by keymgr.Caller, keyID, id string, dryRun bool) error {
	return c.call(ctx, by, wire.ServiceAWS+"RevokeGrant", wire.RevokeGrantRequest{KeyId: keyID, GrantId: id, DryRun: dryRun}, nil)
}
