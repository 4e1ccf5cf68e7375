package keymgr

import (
	"context"
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

// requester is who made a request, as the caller of what is done now that approver has approved it. ErrAccessDenied if it is an identity that is gone or disabled.
func (m *Manager) requester(ctx context.Context, approver Caller, id requestID, rec *requestRecord) (Caller, error) {
	r := rec.Requester
	by := Caller{UID: r.UID, GID: r.GID, PID: r.PID, Principal: r.ARN, Who: r.principal(), RequestID: approver.RequestID, From: Origin{TLS: r.TLS, UserAgent: r.UserAgent},
		Parameters: rec.Asked, approved: &approval{id, approver.Who.ARN}}
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
