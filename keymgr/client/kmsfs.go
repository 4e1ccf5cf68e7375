package client

import (
	"context"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// PutVolume as keymgr.Manager.PutVolume.
func (c *Client) PutVolume(ctx context.Context, by keymgr.Caller, v keymgr.VolumeRecord) error {
	in := wire.PutVolumeRequest{Volume: wire.FromVolume(v)}
	if v.FrontEnd != nil {
		in.FrontEnd = v.FrontEnd[:]
	}
	return c.call(ctx, by, wire.ServiceKmsfs+"PutVolume", in, nil)
}

// GetVolume as keymgr.Manager.GetVolume.
func (c *Client) GetVolume(ctx context.Context, by keymgr.Caller, id blockcrypt.VolumeID) (keymgr.VolumeRecord, error) {
	var out wire.GetVolumeResponse
	if err := c.call(ctx, by, wire.ServiceKmsfs+"GetVolume", wire.VolumeRequest{VolumeId: id.String()}, &out); err != nil {
		return keymgr.VolumeRecord{}, err
	}
	return out.Volume.Record()
}

// ListVolumes as keymgr.Manager.ListVolumes.
func (c *Client) ListVolumes(ctx context.Context, by keymgr.Caller) ([]keymgr.VolumeRecord, error) {
	var out wire.ListVolumesResponse
	if err := c.call(ctx, by, wire.ServiceKmsfs+"ListVolumes", nil, &out); err != nil {
		return nil, err
	}
	var list []keymgr.VolumeRecord
	for _, v := range out.Volumes {
		rec, err := v.Record()
		if err != nil {
			return nil, err
		}
		list = append(list, rec)
	}
	return list, nil
}

// Anchor as keymgr.Manager.Anchor.
func (c *Client) Anchor(ctx context.Context, id blockcrypt.VolumeID) (keymgr.Anchor, error) {
	var out wire.AnchorResponse
	if err := c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"GetAnchor", wire.VolumeRequest{VolumeId: id.String()}, &out); err != nil {
		return keymgr.Anchor{}, err
	}
	return out.Anchor.Anchor()
}

// AdvanceAnchor as keymgr.Manager.AdvanceAnchor. The Client must be registered for this volume (Options.Volume), else keymgr.ErrAccessDenied.
func (c *Client) AdvanceAnchor(ctx context.Context, id blockcrypt.VolumeID, a keymgr.Anchor) error {
	return c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"AdvanceAnchor", wire.AnchorRequest{VolumeId: id.String(), Anchor: wire.FromAnchor(a)}, nil)
}

// RestoreAnchor as keymgr.Manager.RestoreAnchor: an operator's decision, recorded with the reason.
func (c *Client) RestoreAnchor(ctx context.Context, by keymgr.Caller, id blockcrypt.VolumeID, a keymgr.Anchor, reason string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"RestoreAnchor", wire.AnchorRequest{VolumeId: id.String(), Anchor: wire.FromAnchor(a), Reason: reason}, nil)
}

// Status describes the key manager, locked or not.
func (c *Client) Status(ctx context.Context) (keymgr.Status, error) {
	var out wire.StatusResponse
	err := c.call(ctx, keymgr.Caller{}, wire.ServiceKmsfs+"Status", nil, &out)
	return out.Status(), err
}

// Unlock offers the key store's secret, of the kind that Status names; secret is only read. keymgr.ErrWrongSecret if it is not the one. On an
// unlocked key store the secret is checked all the same.
func (c *Client) Unlock(ctx context.Context, secret *locked.Buffer) error {
	return c.unlock(ctx, wire.UnlockRequest{Secret: secret.Bytes()})
}

// UnlockOlder is Unlock for a key store that is older than its token knows (keymgr.ErrRollback): an operator's decision, which is recorded.
func (c *Client) UnlockOlder(ctx context.Context, secret *locked.Buffer) error {
	return c.unlock(ctx, wire.UnlockRequest{Secret: secret.Bytes(), AcceptRestore: true})
}

func (c *Client) unlock(ctx context.Context, in wire.UnlockRequest) error {
	return c.callWithin(ctx, max(UnlockTimeout, c.opts.Timeout), keymgr.Caller{}, wire.ServiceKmsfs+"Unlock", in, nil)
}

// BackupKeyStore has the server write a backup of the key store to a new file, whose path is absolute; see keystore.Store.BackupFile. It takes as long as Unlock may.
func (c *Client) BackupKeyStore(ctx context.Context, path string) error {
	return c.callWithin(ctx, max(UnlockTimeout, c.opts.Timeout), keymgr.Caller{}, wire.ServiceKmsfs+"BackupKeyStore", wire.BackupKeyStoreRequest{Path: path}, nil)
}
