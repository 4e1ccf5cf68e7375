package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func createGrant(ctx context.Context, m *keymgr.Manager, r *request, in *wire.CreateGrantRequest) (wire.CreateGrantResponse, error) {
	out, err := m.CreateGrant(ctx, r.by, keymgr.CreateGrantInput{KeyID: in.KeyId, Name: in.Name, Grantee: in.GranteePrincipal, Retiring: in.RetiringPrincipal,
		Operations: in.Operations, Expires: in.KmsfsExpires.Time, Tokens: in.GrantTokens, DryRun: in.DryRun,
		Constraints: keymgr.GrantConstraints{Equals: in.Constraints.EncryptionContextEquals, Subset: in.Constraints.EncryptionContextSubset}})
	return wire.CreateGrantResponse{GrantToken: out.Token, GrantId: out.ID}, err
}

func listGrants(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListGrantsRequest) (wire.ListGrantsResponse, error) {
	list, err := m.ListGrants(ctx, r.by, in.KeyId, keymgr.GrantFilter{ID: in.GrantId, Grantee: in.GranteePrincipal}, keymgr.Page{Limit: in.Limit, Marker: in.Marker})
	return wire.FromGrants(list), err
}

func listRetirableGrants(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListGrantsRequest) (wire.ListGrantsResponse, error) {
	list, err := m.ListRetirableGrants(ctx, r.by, in.RetiringPrincipal, keymgr.Page{Limit: in.Limit, Marker: in.Marker})
	return wire.FromGrants(list), err
}

func retireGrant(ctx context.Context, m *keymgr.Manager, r *request, in *wire.RetireGrantRequest) (none, error) {
	return none{}, m.RetireGrant(ctx, r.by, keymgr.RetireGrantInput{Token: in.GrantToken, KeyID: in.KeyId, ID: in.GrantId, DryRun: in.DryRun})
}

func revokeGrant(ctx context.Context, m *keymgr.Manager, r *request, in *wire.RevokeGrantRequest) (none, error) {
	return none{}, m.RevokeGrant(ctx, r.by, in.KeyId, in.GrantId, in.DryRun)
}
