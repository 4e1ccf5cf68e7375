package keymgr

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Limits of the policies of an identity.
const (
	MaxIdentityPolicies = 10
	MaxIdentityPolicy   = 6144 // bytes of one
	maxMappedUsers      = 64   // of one identity
)

// PutIdentityPolicy attaches a policy to an identity, or replaces the one of that name. It says what the identity may do where key policies leave it to the account, and what it must not.
// For the owner alone. Errors: ErrMalformedPolicy, ErrLimit, ErrNotFound (the identity), ErrValidation, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) PutIdentityPolicy(ctx context.Context, by Caller, name, policyName, document string) error {
	bad := checkPolicyOf(policyName, document)
	return m.changeIdentity(ctx, by, "PutIdentityPolicy", name, printable(name)+", policy "+printable(policyName), func(_ kv.Txn, old *identityRecord) (identityRecord, error) {
		rec, err := existing(old, name)
		if err == nil {
			err = bad
		}
		if err != nil {
			return rec, err
		}
		rec.Policies = without(rec.Policies, policyName)
		if len(rec.Policies) >= MaxIdentityPolicies {
			return rec, fault(ErrLimit, "an identity has at most %d policies", MaxIdentityPolicies)
		}
		rec.Policies = append(rec.Policies, namedPolicy{policyName, document})
		return rec, nil
	})
}

// namedPolicy is a policy of an identity.
type namedPolicy struct {
	Name   string `json:"name"`
	Policy string `json:"policy"` // as it was put
}

// without is a new list that has no policy of the name.
func without(all []namedPolicy, name string) []namedPolicy {
	return slices.DeleteFunc(slices.Clone(all), func(p namedPolicy) bool { return p.Name == name })
}

func checkPolicyOf(name, document string) error {
	if err := checkIdentityName(name); err != nil {
		return err
	}
	if len(document) > MaxIdentityPolicy {
		return fault(ErrLimit, "a policy of an identity is at most %d bytes long", MaxIdentityPolicy)
	}
	_, err := policy.Rules{Kind: policy.IdentityPolicy}.Parse([]byte(document))
	return policyFault(err)
}

// GetIdentityPolicy returns a policy of an identity as it was put. For the owner alone. Errors: ErrNotFound, ErrAccessDenied.
func (m *Manager) GetIdentityPolicy(ctx context.Context, by Caller, name, policyName string) (string, error) {
	if err := ownerOnly(by, "GetIdentityPolicy"); err != nil {
		return "", m.record(ctx, by, &Use{Operation: "GetIdentityPolicy"}, err)
	}
	rec, err := m.identity(ctx, name)
	if err != nil {
		return "", err
	}
	if rec != nil && !rec.Deleted {
		for _, p := range rec.Policies {
			if p.Name == policyName {
				return p.Policy, nil
			}
		}
	}
	return "", fault(ErrNotFound, "identity %s has no policy %s", printable(name), printable(policyName))
}

// DeleteIdentityPolicy takes a policy away from an identity. For the owner alone. Errors: ErrNotFound, and as PutIdentityPolicy.
func (m *Manager) DeleteIdentityPolicy(ctx context.Context, by Caller, name, policyName string) error {
	return m.changeIdentity(ctx, by, "DeleteIdentityPolicy", name, printable(name)+", policy "+printable(policyName), func(_ kv.Txn, old *identityRecord) (identityRecord, error) {
		rec, err := existing(old, name)
		if err != nil {
			return rec, err
		}
		left := without(rec.Policies, policyName)
		if len(left) == len(rec.Policies) {
			return rec, fault(ErrNotFound, "identity %s has no policy %s", printable(name), printable(policyName))
		}
		rec.Policies = left
		return rec, nil
	})
}

// userRecord leads from a user of the host to the identity that it is mapped to.
type userRecord struct {
	Name string `json:"name"`
}

func userKey(uid uint32) []byte { return key(rowUser, binary.BigEndian.AppendUint32(nil, uid)) }

// MapIdentity gives a user of the host, by number, the policies of an identity beside its own; unmap takes that back. The owner of the key store is bound by none. A user is mapped to one
// identity. For the owner alone. Errors: ErrAlreadyExists (mapped to another), ErrNotFound, ErrLimit, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) MapIdentity(ctx context.Context, by Caller, name string, uid uint32, unmap bool) error {
	operation := "MapIdentity"
	if unmap {
		operation = "UnmapIdentity"
	}
	return m.changeIdentity(ctx, by, operation, name, fmt.Sprintf("%s, uid %d", printable(name), uid), func(tx kv.Txn, old *identityRecord) (identityRecord, error) {
		rec, err := existing(old, name)
		if err != nil {
			return rec, err
		}
		var user userRecord
		mapped, err := m.rows.get(ctx, tx, userKey(uid), &user)
		switch {
		case err != nil:
			return rec, err
		case unmap && (!mapped || user.Name != name):
			return rec, fault(ErrNotFound, "uid %d is not mapped to %s", uid, printable(name))
		case !unmap && mapped && user.Name != name:
			return rec, fault(ErrAlreadyExists, "uid %d is mapped to %s", uid, printable(user.Name))
		}
		rec.UIDs = slices.DeleteFunc(slices.Clone(rec.UIDs), func(u uint32) bool { return u == uid })
		if unmap {
			tx.Delete(userKey(uid))
			return rec, nil
		}
		if len(rec.UIDs) >= maxMappedUsers {
			return rec, fault(ErrLimit, "at most %d users are mapped to an identity", maxMappedUsers)
		}
		rec.UIDs = append(rec.UIDs, uid)
		return rec, m.rows.put(tx, userKey(uid), userRecord{Name: name})
	})
}

// identityOf returns the identity that the caller is, or is mapped to; nil if there is none.
func (m *Manager) identityOf(ctx context.Context, by Caller) (*identityRecord, error) {
	name, ok := strings.CutPrefix(by.Who.ARN, userPrefix)
	if !ok {
		if by.Who.Unix == nil || by.Who.Root || by.Via == ViaKeyManager { // the numbers of another host's users are not ours
			return nil, nil
		}
		var err error
		name, err = m.mappedTo(ctx, by.Who.Unix.UID)
		if err != nil || name == "" {
			return nil, err
		}
	}
	rec, err := m.identity(ctx, name)
	if err != nil || rec == nil || rec.Disabled || rec.Deleted {
		return nil, err
	}
	return rec, nil
}

// mappedTo is the name of the identity that a user of the host is mapped to; "" if there is none.
func (m *Manager) mappedTo(ctx context.Context, uid uint32) (string, error) {
	return cached(&m.cache, func(c *cache) map[uint32]string { return c.mu.users }, uid, func() (string, error) {
		var rec userRecord
		err := m.view(ctx, func(r kv.Reader) error {
			_, err := m.rows.get(ctx, r, userKey(uid), &rec)
			return err
		})
		return rec.Name, err
	})
}

// attached are the policies of an identity: of an administrator, of its role, and its own.
func (m *Manager) attached(rec *identityRecord) (all []*policy.Document) {
	if rec.Admin {
		all = append(all, m.builtin.owner)
	}
	if d := m.builtin.roles[rec.Role]; d != nil {
		all = append(all, d)
	}
	return append(all, rec.documents...)
}

// parse reads the identity's policies. One that does not parse any more must not silently deny nothing.
func (rec *identityRecord) parse() error {
	for _, p := range rec.Policies {
		d, err := policy.Rules{Kind: policy.IdentityPolicy}.Parse([]byte(p.Policy))
		if err != nil {
			return fmt.Errorf("policy %s of identity %s: %v: %w", printable(p.Name), printable(rec.Name), err, errRow)
		}
		rec.documents = append(rec.documents, d)
	}
	return nil
}
