package client

import (
	"context"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// Violation is what was found in a volume that does not open.
type Violation struct {
	Volume  blockcrypt.VolumeID // zero: not known
	Path    string              // absolute; of its directory
	Code    string
	Message string // longer ones are cut
}

// ReportViolation has the server record a finding in the key store's audit log, also while the key store is locked.
func (c *Client) ReportViolation(ctx context.Context, v Violation) error {
	in := wire.ReportViolationRequest{Path: v.Path, Code: v.Code, Message: v.Message[:min(len(v.Message), wire.MaxViolationMessage)]}
	if v.Volume != (blockcrypt.VolumeID{}) {
		in.VolumeId = v.Volume.String()
	}
	return c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"ReportViolation", in, nil)
}
