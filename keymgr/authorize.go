package keymgr

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// ActionAdmin is the right to administer a volume's directories.
const ActionAdmin = "kmsfs:Admin"

// authorisable are the actions that Authorize decides.
var authorisable = []string{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo", ActionAdmin}

// AuthorizeInput asks whether the caller might do an action with a key, under an encryption context.
type AuthorizeInput struct {
	Action  string // one of kms:Decrypt, kms:Encrypt, kms:GenerateDataKey, kms:ReEncryptFrom, kms:ReEncryptTo, kmsfs:Admin
	KeyID   string // id, ARN, alias
	Context Context
	Tokens  []string // grant tokens
}

// Authorization is the answer.
type Authorization struct {
	Allowed bool
	Code    string    // of the error that the operation itself would fail with; "" if allowed
	Message string    // its text
	Reason  string    // the statement or grant that decided
	KeyID   string    // ARN; "" if there is no such key
	Expires time.Time // of the grant that allows it; zero: not by itself
}

// Err is the error that the operation itself would fail with.
func (a Authorization) Err() error {
	if a.Allowed {
		return nil
	}
	return FromCode(a.Code, a.Message)
}

// Authorize decides as the operation would, policies, grants and the key's state, and does nothing: a front end that holds a key already asks it for each of its
// users. It is recorded as the operations are. A denial is an answer, not an error. Errors: ErrValidation, ErrInvalidGrantToken, ErrRecord, and those that are
// ErrKeyUnavailable.
func (m *Manager) Authorize(ctx context.Context, by Caller, in AuthorizeInput) (Authorization, error) {
	u := &Use{Operation: "Authorize", Key: printable(in.KeyID), Context: in.Context, Detail: printable(in.Action)}
	out := Authorization{}
	err := m.decideFor(ctx, by, in, u, &out)
	out.Reason = u.Reason
	if err = m.record(ctx, by, u, err); err == nil {
		out.Allowed = true
		return out, nil
	}
	switch classOf(err) {
	case ErrAccessDenied, ErrDisabled, ErrInvalidState, ErrNotFound:
		out.Code, out.Message = Code(err), Message(err)
		return out, nil
	}
	return Authorization{}, err
}

func (m *Manager) decideFor(ctx context.Context, by Caller, in AuthorizeInput, u *Use, out *Authorization) error {
	if !slices.Contains(authorisable, in.Action) {
		return fault(ErrValidation, "Authorize does not decide %s", printable(in.Action))
	}
	k, err := m.resolve(ctx, in.KeyID, true)
	if err != nil {
		return err
	}
	u.Key, out.KeyID = k.id.ARN(), k.id.ARN()
	if err := checkForwarded(by, in.Context); err != nil {
		return err
	}
	a := ask{key: in.KeyID, context: &in.Context, tokens: in.Tokens}
	if in.Action == ActionAdmin {
		err = m.decideAdmin(ctx, by, u, k, a)
	} else {
		action := strings.TrimPrefix(in.Action, "kms:")
		var d decision
		if d, err = m.decide(ctx, by, u, action, k, "", a); err == nil {
			err = k.allows(action)
		}
		if err == nil && d.Source == policy.FromGrant {
			out.Expires = m.endOf(d.grants[0], in.Tokens)
		}
	}
	if err == nil {
		u.Decision = Allow
	}
	return err
}

// endOf is when a grant stops to allow by itself: at its end, and, while it is seen only by who presents a token, with the token.
func (m *Manager) endOf(g *grant, list []string) time.Time {
	now, end := m.now(), g.Expires
	if now.Sub(g.Created) >= m.grantDelay {
		return end
	}
	claims, _ := m.tokens.readAll(list) // they were read already
	for _, t := range claims {
		if over := t.issued.Add(tokenWindow); t.key == g.key && t.id == g.id && (end.IsZero() || over.Before(end)) {
			end = over
		}
	}
	return end
}

// decideAdmin decides about kmsfs:Admin: an explicit statement of the key's policy, else it is the right of the account's root and its administrators.
func (m *Manager) decideAdmin(ctx context.Context, by Caller, u *Use, k *cmk, a ask) error {
	r := m.request(by, "", k, "", a)
	r.Action = ActionAdmin
	onKey := k.policy.Evaluate(r)
	if onKey.Effect == policy.ImplicitDeny {
		documents, err := m.identityPolicies(ctx, by)
		if err != nil {
			return err
		}
		if slices.Contains(documents, m.builtin.owner) {
			u.Reason = "owner of the key store"
			return nil
		}
	}
	u.Reason = reason(onKey)
	if onKey.Effect != policy.Allow {
		return fault(ErrAccessDenied, "%s", policy.Denial(r, onKey))
	}
	return nil
}
