package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func updateKeyDescription(ctx context.Context, m *keymgr.Manager, r *request, in *wire.UpdateKeyDescriptionRequest) (none, error) {
	return none{}, m.UpdateKeyDescription(ctx, r.by, in.KeyId, in.Description)
}

func updateAlias(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AliasRequest) (none, error) {
	return none{}, m.UpdateAlias(ctx, r.by, in.AliasName, in.TargetKeyId)
}

func tagResource(ctx context.Context, m *keymgr.Manager, r *request, in *wire.TagResourceRequest) (none, error) {
	return none{}, m.TagResource(ctx, r.by, in.KeyId, wire.Tags(in.Tags))
}

func untagResource(ctx context.Context, m *keymgr.Manager, r *request, in *wire.UntagResourceRequest) (none, error) {
	return none{}, m.UntagResource(ctx, r.by, in.KeyId, in.TagKeys)
}

func listResourceTags(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListRequest) (wire.ListResourceTagsResponse, error) {
	list, err := m.ListResourceTags(ctx, r.by, in.KeyId, page(in))
	return wire.ListResourceTagsResponse{Tags: wire.FromTags(list.Tags), Truncated: list.NextMarker != "", NextMarker: list.NextMarker}, err
}

// page is the page that a request asks for.
func page(in *wire.ListRequest) keymgr.Page { return keymgr.Page{Limit: in.Limit, Marker: in.Marker} }

// optional is what *n says; one that is there and 0 becomes out of range, and is refused as that.
func optional(n *int) int {
	switch {
	case n == nil:
		return 0
	case *n == 0:
		return -1
	}
	return *n
}

func scheduleKeyDeletion(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ScheduleKeyDeletionRequest) (wire.ScheduleKeyDeletionResponse, error) {
	out, err := m.ScheduleKeyDeletion(ctx, r.by, in.KeyId, optional(in.PendingWindowInDays))
	return wire.ScheduleKeyDeletionResponse{KeyId: out.KeyID, DeletionDate: wire.Time{Time: out.DeletionDate}, KeyState: keymgr.StatePendingDeletion,
		PendingWindowInDays: out.Days}, err
}

func cancelKeyDeletion(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (wire.KeyIDResponse, error) {
	arn, err := m.CancelKeyDeletion(ctx, r.by, in.KeyId)
	return wire.KeyIDResponse{KeyId: arn}, err
}

func confirmKeyDeletion(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (none, error) {
	return none{}, m.ConfirmKeyDeletion(ctx, r.by, in.KeyId)
}

func enableKeyRotation(ctx context.Context, m *keymgr.Manager, r *request, in *wire.EnableKeyRotationRequest) (none, error) {
	return none{}, m.EnableKeyRotation(ctx, r.by, in.KeyId, optional(in.RotationPeriodInDays))
}

func disableKeyRotation(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (none, error) {
	return none{}, m.DisableKeyRotation(ctx, r.by, in.KeyId)
}

func getKeyRotationStatus(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (wire.RotationStatusResponse, error) {
	s, err := m.GetKeyRotationStatus(ctx, r.by, in.KeyId)
	return wire.RotationStatusResponse{KeyId: s.KeyID, KeyRotationEnabled: s.Enabled, RotationPeriodInDays: s.Days, NextRotationDate: wire.Time{Time: s.Next}}, err
}

func listKeyRotations(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListKeyRotationsRequest) (wire.ListKeyRotationsResponse, error) {
	switch in.IncludeKeyMaterial {
	case "", wire.RotationsOnly, wire.AllKeyMaterial:
	default:
		return wire.ListKeyRotationsResponse{}, validation("1 validation error detected: Value at 'includeKeyMaterial' failed to satisfy constraint: Member must satisfy enum value set: [ROTATIONS_ONLY, ALL_KEY_MATERIAL]")
	}
	list, err := m.ListKeyRotations(ctx, r.by, in.KeyId, in.IncludeKeyMaterial == wire.AllKeyMaterial, keymgr.Page{Limit: in.Limit, Marker: in.Marker})
	return wire.FromRotations(list), err
}

func destroyKeyVersion(ctx context.Context, m *keymgr.Manager, r *request, in *wire.DestroyKeyVersionRequest) (wire.DestroyKeyVersionResponse, error) {
	free, err := wire.VolumeIDs(in.ClearVolumes)
	if err != nil {
		return wire.DestroyKeyVersionResponse{}, err
	}
	lose, err := wire.VolumeIDs(in.LoseVolumes)
	if err != nil {
		return wire.DestroyKeyVersionResponse{}, err
	}
	out, err := m.DestroyKeyVersion(ctx, r.by, keymgr.DestroyVersionInput{KeyID: in.KeyId, Version: in.Version, Clear: free, Lose: lose})
	return wire.DestroyKeyVersionResponse{KeyId: out.KeyID, Version: out.Version, KeyMaterialId: out.MaterialID}, err
}
