package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// sealAudit is for the front end of the volume whose stream it is.
func sealAudit(ctx context.Context, m *keymgr.Manager, r *request, in *wire.SealAuditRequest) (wire.SealAuditResponse, error) {
	c, err := in.Claim()
	if err != nil {
		return wire.SealAuditResponse{}, err
	}
	if v := r.session.volume.Load(); v == nil || v.String() != c.Stream {
		return wire.SealAuditResponse{}, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "a file daemon's audit stream is that of its volume"}
	}
	seal, err := m.SealAudit(ctx, c)
	return wire.SealAuditResponse{Seal: seal}, err
}

func getAuditHead(ctx context.Context, m *keymgr.Manager, _ *request, in *wire.AuditStreamRequest) (wire.AuditHeadResponse, error) {
	a, err := m.AuditHead(ctx, in.Stream)
	return wire.AuditHeadResponse{Head: wire.FromAuditHead(a)}, err
}

// listAuditHeads seals keyd's own stream before, so that what was answered is under the head that is given out.
func listAuditHeads(ctx context.Context, s *server, _ *request) (any, error) {
	m, err := s.manager()
	if err != nil {
		return nil, err
	}
	if err := s.uses.Trail.Seal(ctx); err != nil {
		return nil, &keymgr.Fault{Class: keymgr.ErrRecord, Message: "the audit log cannot be sealed", Cause: err}
	}
	key, heads, err := m.AuditHeads(ctx)
	if err != nil {
		return nil, err
	}
	out := &wire.ListAuditHeadsResponse{Key: key.String(), Dir: keystore.AuditDir(s.cfg.Dir, s.conf), Heads: []wire.AuditHead{}}
	for _, a := range heads {
		out.Heads = append(out.Heads, wire.FromAuditHead(a))
	}
	return out, nil
}

func archiveAudit(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AuditStreamRequest) (none, error) {
	return none{}, m.ArchiveAudit(ctx, r.by, in.Stream, in.UpTo)
}

func acceptAudit(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AuditStreamRequest) (none, error) {
	return none{}, m.AcceptAudit(ctx, r.by, in.Stream, in.Reason)
}
