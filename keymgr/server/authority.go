package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func setApproval(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ApproversBody) (none, error) {
	return none{}, m.SetApproval(ctx, r.by, in.Approvers)
}

func getApproval(ctx context.Context, m *keymgr.Manager, _ *request, _ *struct{}) (wire.ApproversBody, error) {
	list, err := m.Approvers(ctx)
	return wire.ApproversBody{Approvers: append([]string{}, list...)}, err
}

func listApprovalRequests(ctx context.Context, m *keymgr.Manager, r *request, _ *struct{}) (wire.ListApprovalRequestsResponse, error) {
	list, err := m.ListRequests(ctx, r.by)
	return wire.FromRequests(list), err
}

func getApprovalRequest(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ApprovalRequest) (wire.PendingRequest, error) {
	out, err := m.GetRequest(ctx, r.by, in.RequestId)
	return wire.FromRequest(out), err
}

func approveRequest(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ApprovalRequest) (wire.ApproveResponse, error) {
	done, err := m.ApproveRequest(ctx, r.by, in.RequestId)
	return wire.ApproveResponse{Done: done}, err
}

func rejectRequest(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ApprovalRequest) (none, error) {
	return none{}, m.RejectRequest(ctx, r.by, in.RequestId)
}

func setBreakGlass(ctx context.Context, m *keymgr.Manager, r *request, in *wire.BreakGlassRequest) (none, error) {
	first, second, err := wire.SplitSecrets(in.Secrets)
	if err != nil {
		return none{}, err
	}
	return none{}, m.SetBreakGlass(ctx, r.by, first, second)
}

func openBreakGlass(ctx context.Context, m *keymgr.Manager, r *request, in *wire.BreakGlassRequest) (wire.BreakGlassResponse, error) {
	first, second, err := wire.SplitSecrets(in.Secrets)
	if err != nil {
		return wire.BreakGlassResponse{}, err
	}
	k, until, err := m.OpenBreakGlass(ctx, r.by, first, second, in.Lasts(), in.Reason)
	return wire.BreakGlassResponse{Arn: k.ARN, AccessKeyId: k.AccessKeyID, SecretAccessKey: k.Secret, Until: wire.Time{Time: until}}, err
}

func closeBreakGlass(ctx context.Context, m *keymgr.Manager, r *request, _ *struct{}) (none, error) {
	return none{}, m.CloseBreakGlass(ctx, r.by)
}
