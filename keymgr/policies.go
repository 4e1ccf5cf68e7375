package keymgr

import (
	"context"
	"fmt"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// PolicyName is the name of a key's only policy.
const PolicyName = "default"

// policyRecord is the row of a key's policy; a key without one has the default policy.
type policyRecord struct {
	Policy string `json:"policy"` // as it was put
}

// PutKeyPolicy replaces the policy of a key (id or ARN). name is PolicyName or "". Unless bypass is set, a policy under which the caller could not do it again is
// refused. Errors: ErrMalformedPolicy, ErrLimit (its length), ErrNotFound, ErrValidation, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) PutKeyPolicy(ctx context.Context, by Caller, keyID, name, document string, bypass bool) error {
	in := putPolicyParams{KeyID: keyID, Name: name, Policy: document, Bypass: bypass}
	u := &Use{Operation: "PutKeyPolicy", Key: printable(keyID), Alert: true}
	doc, bad := m.parsePolicy(ctx, name, document)
	a := ask{key: keyID, bad: bad, conditions: in.describeTo, look: func(k *cmk) error { return m.checkLockout(ctx, by, u, k, doc, bypass) }}
	return m.perform(ctx, by, change{use: u, second: &seconded{params: in}, check: m.onKey(ctx, by, u, a, func(tx kv.Txn, k *cmk) error {
		return m.rows.put(tx, key(rowPolicy, k.id[:]), policyRecord{Policy: document})
	})})
}

type putPolicyParams struct {
	KeyID  string `json:"keyId"`
	Name   string `json:"policyName,omitempty"`
	Policy string `json:"policy"`
	Bypass bool   `json:"bypassPolicyLockoutSafetyCheck,omitempty"`
}

func (in *putPolicyParams) describeTo(c *policy.Context) { bypassCondition(in.Bypass)(c) }

func (in *putPolicyParams) carryOut(ctx context.Context, m *Manager, by Caller, key string) (string, error) {
	return "the policy of " + key + " is replaced", m.PutKeyPolicy(ctx, by, in.KeyID, in.Name, in.Policy, in.Bypass)
}

// bypassCondition lets policies see that the lockout check is to be left out.
func bypassCondition(bypass bool) func(*policy.Context) {
	return func(c *policy.Context) {
		c.Bool("kms:BypassPolicyLockoutSafetyCheck", bypass)
		if !bypass {
			c.Defaulted("kms:BypassPolicyLockoutSafetyCheck")
		}
	}
}

func (m *Manager) parsePolicy(ctx context.Context, name, document string) (*policy.Document, error) {
	if err := checkPolicyName(name); err != nil {
		return nil, err
	}
	if err := checkLength("policy", document, 1, 131072, false); err != nil {
		return nil, err
	}
	doc, err := policy.Rules{Resolve: m.resolvePrincipal(ctx)}.Parse([]byte(document))
	return doc, policyFault(err)
}

func checkPolicyName(name string) error {
	if name != "" && name != PolicyName {
		return fault(ErrNotFound, "No such policy exists")
	}
	return nil
}

// resolvePrincipal refuses principals that can never ask: those of other accounts, and kinds of identities that there are none of.
func (m *Manager) resolvePrincipal(ctx context.Context) func(string) error {
	return func(arn string) error {
		for _, p := range []string{AccountID, policy.RootARN(AccountID), ViaFileDaemon} {
			if arn == p {
				return nil
			}
		}
		for _, prefix := range []string{policy.UserARN(AccountID, ""), policy.GroupARN(AccountID, "")} {
			if strings.HasPrefix(arn, prefix) {
				return nil // users and groups of the host may come and go
			}
		}
		return m.knownUser(ctx, arn)
	}
}

// checkLockout is nil if the caller could put another policy on the key once it has this one. ErrMalformedPolicy.
func (m *Manager) checkLockout(ctx context.Context, by Caller, u *Use, k *cmk, doc *policy.Document, bypass bool) error {
	if bypass {
		u.Detail = "the lockout check is bypassed"
		return nil
	}
	if by.isEmergency() { // it is gone in a while: somebody else has to be able to
		by = Owner(by.UID, by.GID, by.PID)
	}
	identity, err := m.identityPolicies(ctx, by)
	if err != nil {
		return err
	}
	return policyFault(policy.LockoutCheck(doc, identity, m.request(by, "PutKeyPolicy", k, "", ask{conditions: bypassCondition(false)})))
}

// GetKeyPolicy returns the policy of a key (id or ARN) as it was put; name as for PutKeyPolicy. Errors: ErrNotFound, ErrValidation, ErrAccessDenied, ErrRecord.
func (m *Manager) GetKeyPolicy(ctx context.Context, by Caller, keyID, name string) (string, error) {
	k, err := m.readable(ctx, by, "GetKeyPolicy", ask{key: keyID, look: func(*cmk) error { return checkPolicyName(name) }})
	if err != nil {
		return "", err
	}
	return string(k.policy.Source()), nil
}

// ListKeyPolicies lists the names of the policies of a key (id or ARN): PolicyName. Errors: ErrNotFound, ErrValidation, ErrInvalidMarker, ErrAccessDenied, ErrRecord.
func (m *Manager) ListKeyPolicies(ctx context.Context, by Caller, keyID string, page Page) (names []string, err error) {
	if _, err := m.readable(ctx, by, "ListKeyPolicies", ask{key: keyID}); err != nil {
		return nil, err
	}
	names, _, err = pageOf(page, []string{PolicyName}, func(s string) string { return s }, 100, 1000)
	return names, err
}

// loadPolicy reads a key's policy.
func (m *Manager) loadPolicy(ctx context.Context, r kv.Reader, k *cmk) (*policy.Document, error) {
	if k.record.Managed {
		return m.builtin.managed, nil
	}
	var rec policyRecord
	found, err := m.rows.get(ctx, r, key(rowPolicy, k.id[:]), &rec)
	if err != nil || !found {
		return m.builtin.key, err
	}
	doc, err := policy.Parse([]byte(rec.Policy))
	if err != nil {
		return nil, fmt.Errorf("policy of key %s: %v: %w", k.id, err, errRow)
	}
	return doc, nil
}
