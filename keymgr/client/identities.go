package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// CreateIdentity as keymgr.Manager.CreateIdentity.
func (c *Client) CreateIdentity(ctx context.Context, by keymgr.Caller, name string, admin bool) (keymgr.IdentityKey, error) {
	return c.identityKey(ctx, by, "CreateIdentity", wire.CreateIdentityRequest{Name: name, Admin: admin})
}

// RotateIdentityKey as keymgr.Manager.RotateIdentityKey.
func (c *Client) RotateIdentityKey(ctx context.Context, by keymgr.Caller, name string) (keymgr.IdentityKey, error) {
	return c.identityKey(ctx, by, "RotateIdentityKey", wire.IdentityRequest{Name: name})
}

func (c *Client) identityKey(ctx context.Context, by keymgr.Caller, operation string, in any) (keymgr.IdentityKey, error) {
	var out wire.IdentityKeyResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+operation, in, &out)
	return keymgr.IdentityKey{ARN: out.Arn, AccessKeyID: out.AccessKeyId, Secret: out.SecretAccessKey}, err
}

// ListIdentities as keymgr.Manager.ListIdentities.
func (c *Client) ListIdentities(ctx context.Context, by keymgr.Caller) ([]keymgr.Identity, error) {
	var out wire.ListIdentitiesResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+"ListIdentities", nil, &out)
	return out.List(), err
}

// DisableIdentity as keymgr.Manager.DisableIdentity.
func (c *Client) DisableIdentity(ctx context.Context, by keymgr.Caller, name string, enable bool) error {
	operation := "DisableIdentity"
	if enable {
		operation = "EnableIdentity"
	}
	return c.call(ctx, by, wire.ServiceKmsfs+operation, wire.IdentityRequest{Name: name}, nil)
}

// DeleteIdentity as keymgr.Manager.DeleteIdentity.
func (c *Client) DeleteIdentity(ctx context.Context, by keymgr.Caller, name string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"DeleteIdentity", wire.IdentityRequest{Name: name}, nil)
}

// CreateIdentityAs as keymgr.Manager.CreateIdentityAs.
func (c *Client) CreateIdentityAs(ctx context.Context, by keymgr.Caller, name, role string) (keymgr.IdentityKey, error) {
	return c.identityKey(ctx, by, "CreateIdentity", wire.CreateIdentityRequest{Name: name, Role: role})
}

// PutIdentityPolicy as keymgr.Manager.PutIdentityPolicy.
func (c *Client) PutIdentityPolicy(ctx context.Context, by keymgr.Caller, name, policyName, document string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"PutIdentityPolicy", wire.IdentityPolicyRequest{Name: name, PolicyName: policyName, Policy: document}, nil)
}

// GetIdentityPolicy as keymgr.Manager.GetIdentityPolicy.
func (c *Client) GetIdentityPolicy(ctx context.Context, by keymgr.Caller, name, policyName string) (string, error) {
	var out wire.IdentityPolicyResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+"GetIdentityPolicy", wire.IdentityPolicyRequest{Name: name, PolicyName: policyName}, &out)
	return out.Policy, err
}

// DeleteIdentityPolicy as keymgr.Manager.DeleteIdentityPolicy.
func (c *Client) DeleteIdentityPolicy(ctx context.Context, by keymgr.Caller, name, policyName string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"DeleteIdentityPolicy", wire.IdentityPolicyRequest{Name: name, PolicyName: policyName}, nil)
}

// MapIdentity as keymgr.Manager.MapIdentity.
func (c *Client) MapIdentity(ctx context.Context, by keymgr.Caller, name string, uid uint32, unmap bool) error {
	operation := "MapIdentity"
	if unmap {
		operation = "UnmapIdentity"
	}
	return c.call(ctx, by, wire.ServiceKmsfs+operation, wire.MapIdentityRequest{Name: name, UID: uid}, nil)
}
