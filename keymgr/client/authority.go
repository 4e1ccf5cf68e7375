package client

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// SetApproval as keymgr.Manager.SetApproval.
func (c *Client) SetApproval(ctx context.Context, by keymgr.Caller, approvers []string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"SetApproval", wire.ApproversBody{Approvers: approvers}, nil)
}

// Approvers as keymgr.Manager.Approvers.
func (c *Client) Approvers(ctx context.Context) ([]string, error) {
	var out wire.ApproversBody
	err := c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"GetApproval", nil, &out)
	return out.Approvers, err
}

// ListRequests as keymgr.Manager.ListRequests.
func (c *Client) ListRequests(ctx context.Context, by keymgr.Caller) ([]keymgr.PendingRequest, error) {
	var out wire.ListApprovalRequestsResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+"ListApprovalRequests", nil, &out)
	return out.List(), err
}

// GetRequest as keymgr.Manager.GetRequest.
func (c *Client) GetRequest(ctx context.Context, by keymgr.Caller, id string) (keymgr.PendingRequest, error) {
	var out wire.PendingRequest
	err := c.call(ctx, by, wire.ServiceKmsfs+"GetApprovalRequest", wire.ApprovalRequest{RequestId: id}, &out)
	return out.Request(), err
}

// ApproveRequest as keymgr.Manager.ApproveRequest.
func (c *Client) ApproveRequest(ctx context.Context, by keymgr.Caller, id string) (done string, err error) {
	var out wire.ApproveResponse
	err = c.call(ctx, by, wire.ServiceKmsfs+"ApproveRequest", wire.ApprovalRequest{RequestId: id}, &out)
	return out.Done, err
}

// RejectRequest as keymgr.Manager.RejectRequest.
func (c *Client) RejectRequest(ctx context.Context, by keymgr.Caller, id string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"RejectRequest", wire.ApprovalRequest{RequestId: id}, nil)
}

// SetBreakGlass as keymgr.Manager.SetBreakGlass.
func (c *Client) SetBreakGlass(ctx context.Context, by keymgr.Caller, first, second []byte) error {
	in := wire.BreakGlassRequest{Secrets: wire.JoinSecrets(first, second)}
	defer clear(in.Secrets)
	return c.callWithin(ctx, max(c.opts.Timeout, UnlockTimeout), by, wire.ServiceKmsfs+"SetBreakGlass", in, nil)
}

// OpenBreakGlass as keymgr.Manager.OpenBreakGlass; lasts in whole seconds.
func (c *Client) OpenBreakGlass(ctx context.Context, by keymgr.Caller, first, second []byte, lasts time.Duration, reason string) (keymgr.IdentityKey, time.Time, error) {
	in := wire.BreakGlassRequest{Secrets: wire.JoinSecrets(first, second), Seconds: int(lasts / time.Second), Reason: reason}
	defer clear(in.Secrets)
	var out wire.BreakGlassResponse
	err := c.callWithin(ctx, max(c.opts.Timeout, UnlockTimeout), by, wire.ServiceKmsfs+"OpenBreakGlass", in, &out)
	return keymgr.IdentityKey{ARN: out.Arn, AccessKeyID: out.AccessKeyId, Secret: out.SecretAccessKey}, out.Until.Time, err
}

// CloseBreakGlass as keymgr.Manager.CloseBreakGlass.
func (c *Client) CloseBreakGlass(ctx context.Context, by keymgr.Caller) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"CloseBreakGlass", nil, nil)
}
