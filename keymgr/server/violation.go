package server

import (
	"context"
	"path/filepath"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// reportViolation takes down what somebody found changed in a volume that could not be opened for that, and so cannot record it in its own stream. Whoever may
// connect may report; the key store need not be unlocked.
func reportViolation(ctx context.Context, s *server, r *request) (any, error) {
	var in wire.ReportViolationRequest
	if err := wire.Decode(r.body, &in); err != nil {
		return nil, err
	}
	switch {
	case !filepath.IsAbs(in.Path) || len(in.Path) > wire.MaxViolationPath:
		return nil, validation("Path is not an absolute path, or too long")
	case in.Code == "" || len(in.Code) > wire.MaxViolationCode:
		return nil, validation("Code is empty or too long")
	case in.Message == "" || len(in.Message) > wire.MaxViolationMessage:
		return nil, validation("Message is empty or too long")
	}
	e := audit.Event{
		Class: audit.Integrity, Source: audit.Files, Name: audit.Damage, Internal: true, ReadOnly: true, Decision: audit.Deny, RequestID: r.by.RequestID,
		Identity:  audit.Identity{Principal: r.by.Principal, UID: r.by.UID, GID: r.by.GID, PID: r.by.PID},
		ErrorCode: in.Code, ErrorMessage: in.Message, Detail: "open volume", Parameters: map[string]any{"directory": in.Path},
	}
	if in.VolumeId != "" {
		id, err := wire.ParseVolumeID(in.VolumeId)
		if err != nil {
			return nil, err
		}
		e.Volume = id.String()
	}
	return nil, s.uses.RecordEvent(ctx, &e)
}

// violation takes down that the key store does not open because it is not as it was left. It is the refusal that counts: that it cannot be recorded is told to
// the log, and no more.
func (s *server) violation(by keymgr.Caller, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	message := cause.Error()
	err := s.uses.RecordEvent(ctx, &audit.Event{
		Class: audit.Integrity, Source: audit.Keys, Name: audit.Damage, Internal: true, ReadOnly: true, Decision: audit.Deny, RequestID: by.RequestID,
		ErrorCode: "Damaged", ErrorMessage: message[:min(len(message), wire.MaxViolationMessage)], Detail: "open key store",
	})
	if err != nil {
		s.log.Error("a damaged key store could not be recorded in the audit log", "found", cause, "error", err)
	}
}
