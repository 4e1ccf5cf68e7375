package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func identityKey(k keymgr.IdentityKey) wire.IdentityKeyResponse {
	return wire.IdentityKeyResponse{Arn: k.ARN, AccessKeyId: k.AccessKeyID, SecretAccessKey: k.Secret}
}

func createIdentity(ctx context.Context, m *keymgr.Manager, r *request, in *wire.CreateIdentityRequest) (wire.IdentityKeyResponse, error) {
	if in.Role != "" && in.Admin {
		return wire.IdentityKeyResponse{}, validation("an administrator has no role")
	}
	if in.Role != "" {
		k, err := m.CreateIdentityAs(ctx, r.by, in.Name, in.Role)
		return identityKey(k), err
	}
	k, err := m.CreateIdentity(ctx, r.by, in.Name, in.Admin)
	return identityKey(k), err
}

func rotateIdentityKey(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityRequest) (wire.IdentityKeyResponse, error) {
	k, err := m.RotateIdentityKey(ctx, r.by, in.Name)
	return identityKey(k), err
}

func listIdentities(ctx context.Context, m *keymgr.Manager, r *request, _ *struct{}) (wire.ListIdentitiesResponse, error) {
	list, err := m.ListIdentities(ctx, r.by)
	return wire.FromIdentities(list), err
}

func disableIdentity(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityRequest) (none, error) {
	return none{}, m.DisableIdentity(ctx, r.by, in.Name, false)
}

func enableIdentity(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityRequest) (none, error) {
	return none{}, m.DisableIdentity(ctx, r.by, in.Name, true)
}

func deleteIdentity(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityRequest) (none, error) {
	return none{}, m.DeleteIdentity(ctx, r.by, in.Name)
}

func putIdentityPolicy(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityPolicyRequest) (none, error) {
	return none{}, m.PutIdentityPolicy(ctx, r.by, in.Name, in.PolicyName, in.Policy)
}

func getIdentityPolicy(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityPolicyRequest) (wire.IdentityPolicyResponse, error) {
	document, err := m.GetIdentityPolicy(ctx, r.by, in.Name, in.PolicyName)
	return wire.IdentityPolicyResponse{Policy: document}, err
}

func deleteIdentityPolicy(ctx context.Context, m *keymgr.Manager, r *request, in *wire.IdentityPolicyRequest) (none, error) {
	return none{}, m.DeleteIdentityPolicy(ctx, r.by, in.Name, in.PolicyName)
}

func mapIdentity(ctx context.Context, m *keymgr.Manager, r *request, in *wire.MapIdentityRequest) (none, error) {
	return none{}, m.MapIdentity(ctx, r.by, in.Name, in.UID, false)
}

func unmapIdentity(ctx context.Context, m *keymgr.Manager, r *request, in *wire.MapIdentityRequest) (none, error) {
	return none{}, m.MapIdentity(ctx, r.by, in.Name, in.UID, true)
}
