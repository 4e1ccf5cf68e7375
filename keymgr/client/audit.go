package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// AuditHead as keymgr.Manager.AuditHead.
func (c *Client) AuditHead(ctx context.Context, stream string) (seal.Anchor, error) {
	var out wire.AuditHeadResponse
	if err := c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"GetAuditHead", wire.AuditStreamRequest{Stream: stream}, &out); err != nil {
		return seal.Anchor{}, err
	}
	return out.Head.Anchor()
}

// SealAudit as keymgr.Manager.SealAudit. The Client must be the front end of the volume whose stream it is, else keymgr.ErrAccessDenied.
func (c *Client) SealAudit(ctx context.Context, claim seal.Claim) ([]byte, error) {
	var out wire.SealAuditResponse
	err := c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"SealAudit", wire.FromClaim(claim), &out)
	return out.Seal, err
}

// AuditHeads as keymgr.Manager.AuditHeads, and where the log is. The key daemon's own stream is sealed before.
func (c *Client) AuditHeads(ctx context.Context) (key seal.PublicKey, heads []seal.Anchor, dir string, err error) {
	var out wire.ListAuditHeadsResponse
	if err = c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"ListAuditHeads", nil, &out); err != nil {
		return key, nil, "", err
	}
	if key, err = seal.ParsePublicKey(out.Key); err != nil {
		return key, nil, "", &keymgr.Fault{Class: keymgr.ErrInternal, Message: "malformed answer", Cause: err}
	}
	for _, h := range out.Heads {
		a, err := h.Anchor()
		if err != nil {
			return key, nil, "", err
		}
		heads = append(heads, a)
	}
	return key, heads, out.Dir, nil
}

// ArchiveAudit as keymgr.Manager.ArchiveAudit.
func (c *Client) ArchiveAudit(ctx context.Context, by keymgr.Caller, stream string, upTo int64) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"ArchiveAuditLog", wire.AuditStreamRequest{Stream: stream, UpTo: upTo}, nil)
}

// AcceptAudit as keymgr.Manager.AcceptAudit.
func (c *Client) AcceptAudit(ctx context.Context, by keymgr.Caller, stream, reason string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"AcceptAuditLog", wire.AuditStreamRequest{Stream: stream, Reason: reason}, nil)
}
