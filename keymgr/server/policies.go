package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func putKeyPolicy(ctx context.Context, m *keymgr.Manager, r *request, in *wire.PutKeyPolicyRequest) (none, error) {
	return none{}, m.PutKeyPolicy(ctx, r.by, in.KeyId, in.PolicyName, in.Policy, in.BypassPolicyLockoutSafetyCheck)
}

func getKeyPolicy(ctx context.Context, m *keymgr.Manager, r *request, in *wire.GetKeyPolicyRequest) (wire.GetKeyPolicyResponse, error) {
	document, err := m.GetKeyPolicy(ctx, r.by, in.KeyId, in.PolicyName)
	return wire.GetKeyPolicyResponse{Policy: document, PolicyName: keymgr.PolicyName}, err
}

func listKeyPolicies(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListRequest) (wire.ListKeyPoliciesResponse, error) {
	names, err := m.ListKeyPolicies(ctx, r.by, in.KeyId, page(in))
	return wire.ListKeyPoliciesResponse{PolicyNames: names}, err
}
