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
