package keymgr

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// requesterRecord is a caller as a request keeps it.
type requesterRecord struct {
	ARN       string      `json:"arn"`
	Root      bool        `json:"root,omitempty"`
	UID       int         `json:"uid"`
	GID       int         `json:"gid"`
	PID       int         `json:"pid"`
	Unix      *unixRecord `json:"unix,omitempty"` // the user of the host behind it
	Address   string      `json:"address,omitempty"`
	TLS       bool        `json:"tls,omitempty"`
	UserAgent string      `json:"userAgent,omitempty"`
}

// unixRecord is a policy.Unix.
type unixRecord struct {
	UID              uint32   `json:"uid"`
	User             string   `json:"user,omitempty"`
	Groups           []string `json:"groups,omitempty"`
	UnresolvedUser   bool     `json:"unresolvedUser,omitempty"`
	UnresolvedGroups bool     `json:"unresolvedGroups,omitempty"`
}

func requesterOf(by Caller) requesterRecord {
	r := requesterRecord{ARN: by.Who.ARN, Root: by.Who.Root, UID: by.UID, GID: by.GID, PID: by.PID, TLS: by.From.TLS, UserAgent: by.From.UserAgent}
	if u := by.Who.Unix; u != nil {
		r.Unix = &unixRecord{u.UID, u.User, u.Groups, u.UnresolvedUser, u.UnresolvedGroups}
	}
	if by.From.Addr.IsValid() {
		r.Address = by.From.Addr.String()
	}
	return r
}

func (r requesterRecord) principal() policy.Principal {
	p := policy.Principal{ARN: r.ARN, Account: AccountID, Root: r.Root}
	if u := r.Unix; u != nil {
		p.Unix = &policy.Unix{UID: u.UID, User: u.User, Groups: u.Groups, UnresolvedUser: u.UnresolvedUser, UnresolvedGroups: u.UnresolvedGroups}
	}
	return p
}

// requester is who made a request, as the caller of what is done now; approver has approved it. ErrAccessDenied if it is an identity that is gone or disabled.
func (m *Manager) requester(ctx context.Context, approver Caller, rec *requestRecord) (Caller, error) {
	r := rec.Requester
	by := Caller{UID: r.UID, GID: r.GID, PID: r.PID, Principal: r.ARN, Who: r.principal(), RequestID: approver.RequestID, From: Origin{TLS: r.TLS, UserAgent: r.UserAgent},
		Parameters: rec.Asked, approvedBy: approver.Who.ARN}
	by.From.Addr, _ = netip.ParseAddr(r.Address) // none where it is empty
	if name, ok := strings.CutPrefix(r.ARN, userPrefix); ok {
		who, err := m.identity(ctx, name)
		if err != nil {
			return by, err
		}
		if who == nil || who.Deleted || who.Disabled {
			return by, fault(ErrAccessDenied, "%s, who made the request, is disabled or deleted", r.ARN)
		}
	}
	return by, nil
}

// guardedOperation is what a request asks for.
type guardedOperation struct {
	conditions func(*policy.Context) // what policies may ask for beside the key; nil: an approver need not have the right to do it
	do         func(ctx context.Context, by Caller, g *guarded) (done string, err error)
}

// guardedOperation reads a request. ErrInternal if it is not one of those that are kept.
func (m *Manager) guardedOperation(rec *requestRecord) (op guardedOperation, err error) {
	read := func(params any) { err = json.Unmarshal(rec.Parameters, params) }
	switch rec.Operation {
	case "PutKeyPolicy":
		var in putPolicyParams
		read(&in)
		op.conditions = bypassCondition(in.Bypass)
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			return "the policy of " + rec.Key + " is replaced", m.putKeyPolicy(ctx, by, in, g)
		}
	case "CreateGrant":
		var in CreateGrantInput
		read(&in)
		op.conditions = in.describeTo
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			made, err := m.createGrant(ctx, by, in, g)
			return "grant " + made.ID, err
		}
	case "ScheduleKeyDeletion":
		var in scheduleParams
		read(&in)
		op.conditions = in.describeTo
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			out, err := m.scheduleKeyDeletion(ctx, by, in, g)
			return fmt.Sprintf("%s will be deleted in %d days", out.KeyID, out.Days), err
		}
	case "UpdateAlias":
		var in aliasParams
		read(&in)
		op.conditions = func(*policy.Context) {}
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			return in.Alias + " is " + rec.Key, m.updateAlias(ctx, by, in, g)
		}
	case "DeleteAlias":
		var in aliasParams
		read(&in)
		op.conditions = func(*policy.Context) {}
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			return in.Alias + " is removed", m.deleteAlias(ctx, by, in, g)
		}
	case "DestroyKeyVersion":
		var in DestroyVersionInput
		read(&in)
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) { // no conditions: the owner's alone, so no approver could do it
			out, err := m.destroyKeyVersion(ctx, by, in, g)
			return fmt.Sprintf("version %d of %s is destroyed", out.Version, out.KeyID), err
		}
	case "CreateKey":
		var in CreateKeyInput
		read(&in)
		op.conditions = bypassCondition(in.Bypass)
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			md, err := m.createKey(ctx, by, in, g)
			return "key " + md.ARN, err
		}
	case "SetApproval":
		var in setApprovalParams
		read(&in)
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			return "approvers are set", m.setApproval(ctx, by, in, g)
		}
	case "SetBreakGlass":
		var in setBreakGlassParams
		read(&in)
		op.do = func(ctx context.Context, by Caller, g *guarded) (string, error) {
			return "the secrets of break-glass are set", m.setBreakGlass(ctx, by, in, g)
		}
	default:
		err = fmt.Errorf("operation %q", printable(rec.Operation))
	}
	if err != nil {
		return op, fmt.Errorf("request: %v: %w", err, errRow)
	}
	return op, nil
}
