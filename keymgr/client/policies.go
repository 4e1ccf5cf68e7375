package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// PutKeyPolicy as keymgr.Manager.PutKeyPolicy.
func (c *Client) PutKeyPolicy(ctx context.Context, by keymgr.Caller, keyID, name, document string, bypass bool) error {
	return c.call(ctx, by, wire.ServiceAWS+"PutKeyPolicy", wire.PutKeyPolicyRequest{KeyId: keyID, PolicyName: name, Policy: document,
		BypassPolicyLockoutSafetyCheck: bypass}, nil)
}

// GetKeyPolicy as keymgr.Manager.GetKeyPolicy.
func (c *Client) GetKeyPolicy(ctx context.Context, by keymgr.Caller, keyID, name string) (string, error) {
	var out wire.GetKeyPolicyResponse
	err := c.call(ctx, by, wire.ServiceAWS+"GetKeyPolicy", wire.GetKeyPolicyRequest{KeyId: keyID, PolicyName: name}, &out)
	return out.Policy, err
}

// ListKeyPolicies as keymgr.Manager.ListKeyPolicies.
func (c *Client) ListKeyPolicies(ctx context.Context, by keymgr.Caller, keyID string, page keymgr.Page) ([]string, error) {
	var out wire.ListKeyPoliciesResponse
	err := c.call(ctx, by, wire.ServiceAWS+"ListKeyPolicies", wire.ListRequest{KeyId: keyID, Limit: page.Limit, Marker: page.Marker}, &out)
	return out.PolicyNames, err
}
