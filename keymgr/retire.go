package keymgr

import (
	"context"
	"slices"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// RetireGrantInput names a grant: by Token, or by KeyID (id or ARN) and ID.
type RetireGrantInput struct {
	Token     string
	KeyID, ID string
	DryRun    bool
}

// RetireGrant ends a grant for those who have it or look after it: its retiring principal, its grantee where the grant allows RetireGrant, and whom identity policies of the
// account allow kms:RetireGrant. A Deny of it in them counts; key policies have no say. Errors: ErrValidation, ErrInvalidGrantToken, ErrInvalidGrantID, ErrNotFound,
// ErrAccessDenied, ErrDryRun, and those that are ErrKeyUnavailable.
func (m *Manager) RetireGrant(ctx context.Context, by Caller, in RetireGrantInput) error {
	u := &Use{Operation: "RetireGrant", Key: printable(in.KeyID)}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		k, id, err := m.grantNamed(ctx, in)
		if err != nil {
			return nil, err
		}
		u.Key, u.Detail = k.id.ARN(), "grant "+id.String()
		var g *grant
		if err := m.view(ctx, func(r kv.Reader) error {
			g, err = m.loadGrant(ctx, r, k.id, id)
			return err
		}); err != nil {
			return nil, err
		}
		if err := m.mayRetire(ctx, by, u, k, g); err != nil {
			return nil, err
		}
		if err := k.allows(u.Operation); err != nil {
			return nil, err
		}
		if in.DryRun {
			return nil, errDryRun()
		}
		return func(tx kv.Txn) error { return m.removeGrant(ctx, tx, k.id, id) }, nil
	})
}

// grantNamed finds the key and the id that a request to retire names.
func (m *Manager) grantNamed(ctx context.Context, in RetireGrantInput) (*cmk, grantID, error) {
	byToken, byID := in.Token != "", in.KeyID != "" || in.ID != ""
	if byToken == byID || byID && (in.KeyID == "" || in.ID == "") {
		return nil, grantID{}, fault(ErrValidation, "name the grant by its token, or by the key's ARN and the grant's id")
	}
	if byID {
		id, err := parseGrantID(in.ID)
		if err != nil {
			return nil, id, err
		}
		k, err := m.resolve(ctx, in.KeyID, false)
		return k, id, err
	}
	all, err := m.tokens.readAll([]string{in.Token})
	if err != nil {
		return nil, grantID{}, err
	}
	k, err := m.keyByID(ctx, all[0].key)
	return k, all[0].id, err
}

// mayRetire decides. ErrAccessDenied.
func (m *Manager) mayRetire(ctx context.Context, by Caller, u *Use, k *cmk, g *grant) error {
	r := m.request(by, "RetireGrant", k, "", ask{})
	documents, err := m.identityPolicies(ctx, by)
	if err != nil {
		return err
	}
	var identity []policy.Decision
	for _, d := range documents {
		identity = append(identity, d.Evaluate(r))
	}
	result := policy.Combine(nil, identity, nil)
	u.Reason = reason(result)
	if result.Effect != policy.ImplicitDeny {
		if result.Effect == policy.Allow {
			return nil
		}
		return fault(ErrAccessDenied, "%s", policy.Denial(r, result))
	}
	retiring, _ := policy.PrincipalCovers(g.Retiring, by.Who)
	grantee, _ := policy.PrincipalCovers(g.Grantee, by.Who)
	if retiring || grantee && slices.Contains(g.Operations, "RetireGrant") {
		u.Reason = "grant " + g.id.String()
		return nil
	}
	return fault(ErrAccessDenied, "%s", policy.Denial(r, result))
}

// RevokeGrant ends a grant of a key (id or ARN), for those whom the key's policy allows it. Errors: ErrInvalidGrantID, ErrNotFound, ErrValidation, ErrAccessDenied, ErrDryRun, and
// those that are ErrKeyUnavailable.
func (m *Manager) RevokeGrant(ctx context.Context, by Caller, keyID, id string, dryRun bool) error {
	u := &Use{Operation: "RevokeGrant", Key: printable(keyID), Detail: "grant " + printable(id)}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		parsed, bad := parseGrantID(id)
		k, err := m.admitted(ctx, by, u, ask{key: keyID, bad: bad, conditions: func(c *policy.Context) { c.Bool("kms:GrantIsForAWSResource", false) }})
		if err != nil {
			return nil, err
		}
		if err := m.view(ctx, func(r kv.Reader) error {
			_, err := m.loadGrant(ctx, r, k.id, parsed)
			return err
		}); err != nil {
			return nil, err
		}
		if dryRun {
			return nil, errDryRun()
		}
		return func(tx kv.Txn) error { return m.removeGrant(ctx, tx, k.id, parsed) }, nil
	})
}
