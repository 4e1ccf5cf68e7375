package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// UpdateKeyDescription as keymgr.Manager.UpdateKeyDescription.
func (c *Client) UpdateKeyDescription(ctx context.Context, by keymgr.Caller, keyID, description string) error {
	return c.call(ctx, by, wire.ServiceAWS+"UpdateKeyDescription", wire.UpdateKeyDescriptionRequest{KeyId: keyID, Description: description}, nil)
}

// UpdateAlias as keymgr.Manager.UpdateAlias.
func (c *Client) UpdateAlias(ctx context.Context, by keymgr.Caller, alias, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"UpdateAlias", wire.AliasRequest{AliasName: alias, TargetKeyId: keyID}, nil)
}

// TagResource as keymgr.Manager.TagResource.
func (c *Client) TagResource(ctx context.Context, by keymgr.Caller, keyID string, tags []keymgr.Tag) error {
	return c.call(ctx, by, wire.ServiceAWS+"TagResource", wire.TagResourceRequest{KeyId: keyID, Tags: wire.FromTags(tags)}, nil)
}

// UntagResource as keymgr.Manager.UntagResource.
func (c *Client) UntagResource(ctx context.Context, by keymgr.Caller, keyID string, names []string) error {
	return c.call(ctx, by, wire.ServiceAWS+"UntagResource", wire.UntagResourceRequest{KeyId: keyID, TagKeys: names}, nil)
}

// ListResourceTags as keymgr.Manager.ListResourceTags.
func (c *Client) ListResourceTags(ctx context.Context, by keymgr.Caller, keyID string, page keymgr.Page) (keymgr.TagList, error) {
	var out wire.ListResourceTagsResponse
	err := c.call(ctx, by, wire.ServiceAWS+"ListResourceTags", wire.ListRequest{KeyId: keyID, Limit: page.Limit, Marker: page.Marker}, &out)
	return keymgr.TagList{Tags: wire.Tags(out.Tags), NextMarker: out.NextMarker}, err
}

// ScheduleKeyDeletion as keymgr.Manager.ScheduleKeyDeletion.
func (c *Client) ScheduleKeyDeletion(ctx context.Context, by keymgr.Caller, keyID string, window int) (keymgr.ScheduledDeletion, error) {
	in := wire.ScheduleKeyDeletionRequest{KeyId: keyID}
	if window != 0 {
		in.PendingWindowInDays = &window
	}
	var out wire.ScheduleKeyDeletionResponse
	err := c.call(ctx, by, wire.ServiceAWS+"ScheduleKeyDeletion", in, &out)
	return keymgr.ScheduledDeletion{KeyID: out.KeyId, DeletionDate: out.DeletionDate.Time, Days: out.PendingWindowInDays}, err
}

// CancelKeyDeletion as keymgr.Manager.CancelKeyDeletion.
func (c *Client) CancelKeyDeletion(ctx context.Context, by keymgr.Caller, keyID string) (arn string, err error) {
	var out wire.KeyIDResponse
	err = c.call(ctx, by, wire.ServiceAWS+"CancelKeyDeletion", wire.KeyRequest{KeyId: keyID}, &out)
	return out.KeyId, err
}

// ConfirmKeyDeletion as keymgr.Manager.ConfirmKeyDeletion.
func (c *Client) ConfirmKeyDeletion(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, wire.ServiceKmsfs+"ConfirmKeyDeletion", wire.KeyRequest{KeyId: keyID}, nil)
}

// EnableKeyRotation as keymgr.Manager.EnableKeyRotation.
func (c *Client) EnableKeyRotation(ctx context.Context, by keymgr.Caller, keyID string, period int) error {
	in := wire.EnableKeyRotationRequest{KeyId: keyID}
	if period != 0 {
		in.RotationPeriodInDays = &period
	}
	return c.call(ctx, by, wire.ServiceAWS+"EnableKeyRotation", in, nil)
}

// DisableKeyRotation as keymgr.Manager.DisableKeyRotation.
func (c *Client) DisableKeyRotation(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"DisableKeyRotation", wire.KeyRequest{KeyId: keyID}, nil)
}

// GetKeyRotationStatus as keymgr.Manager.GetKeyRotationStatus.
func (c *Client) GetKeyRotationStatus(ctx context.Context, by keymgr.Caller, keyID string) (keymgr.RotationStatus, error) {
	var out wire.RotationStatusResponse
	err := c.call(ctx, by, wire.ServiceAWS+"GetKeyRotationStatus", wire.KeyRequest{KeyId: keyID}, &out)
	return keymgr.RotationStatus{KeyID: out.KeyId, Enabled: out.KeyRotationEnabled, Days: out.RotationPeriodInDays, Next: out.NextRotationDate.Time}, err
}

// ListKeyRotations as keymgr.Manager.ListKeyRotations.
func (c *Client) ListKeyRotations(ctx context.Context, by keymgr.Caller, keyID string, all bool, page keymgr.Page) (keymgr.RotationList, error) {
	in := wire.ListKeyRotationsRequest{KeyId: keyID, Limit: page.Limit, Marker: page.Marker}
	if all {
		in.IncludeKeyMaterial = wire.AllKeyMaterial
	}
	var out wire.ListKeyRotationsResponse
	err := c.call(ctx, by, wire.ServiceAWS+"ListKeyRotations", in, &out)
	return out.List(), err
}

// DestroyKeyVersion as keymgr.Manager.DestroyKeyVersion.
func (c *Client) DestroyKeyVersion(ctx context.Context, by keymgr.Caller, in keymgr.DestroyVersionInput) (keymgr.DestroyedVersion, error) {
	var out wire.DestroyKeyVersionResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+"DestroyKeyVersion", wire.DestroyKeyVersionRequest{KeyId: in.KeyID, Version: in.Version,
		ClearVolumes: wire.FromVolumeIDs(in.Clear), LoseVolumes: wire.FromVolumeIDs(in.Lose)}, &out)
	return keymgr.DestroyedVersion{KeyID: out.KeyId, Version: out.Version, MaterialID: out.KeyMaterialId}, err
}
