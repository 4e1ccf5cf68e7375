package keymgr

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// CreateKey makes a CMK with one backing key, generated in the token, and its alias if one is given. The key is enabled. Errors: ErrValidation,
// ErrInvalidAlias, ErrNotAuthorized (reserved alias), ErrAlreadyExists (alias), ErrApprovalRequired, and those that are ErrKeyUnavailable.
func (m *Manager) CreateKey(ctx context.Context, by Caller, in CreateKeyInput) (KeyMetadata, error) {
	id, err := newKeyUUID()
	if err != nil {
		return KeyMetadata{}, err
	}
	u := &Use{Operation: "CreateKey", Key: id.ARN(), Detail: printable(in.Alias), Alert: in.Bypass,
		Response: map[string]any{"keyMetadata": map[string]any{"arn": id.ARN(), "keyId": id.String(), "aWSAccountId": AccountID, "origin": cmp.Or(in.Origin, OriginToken)}}}
	var k *cmk
	made := keyAnswer{id.ARN()}
	err = m.perform(ctx, by, change{use: u, second: &seconded{params: in, free: !in.Bypass, answer: &made}, check: func() (func(kv.Txn) error, error) {
		if err := m.checkCreate(ctx, by, u, id, in); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return m.putNewKey(ctx, tx, k, in) }, nil
	}, prepare: func() (undo func(), err error) {
		if in.Origin == OriginExternal {
			k, err = m.externalKey(id, in.Description)
			return func() {}, err
		}
		k, err = m.generateKey(ctx, id, in.Description)
		if err != nil {
			return nil, err
		}
		return func() { _ = m.token.DestroyKey(context.WithoutCancel(ctx), k.current().tokenKey) }, nil
	}})
	if err == nil {
		k, err = m.resolve(ctx, made.KeyID, false) // where it was approved before, as it is now: none is deleted before its answer is
	}
	if err != nil {
		return KeyMetadata{}, err
	}
	return k.metadata(), nil
}

func (in *CreateKeyInput) describeTo(c *policy.Context) { bypassCondition(in.Bypass)(c) }

func (in *CreateKeyInput) carryOut(ctx context.Context, m *Manager, by Caller, _ string) (string, error) {
	made, err := m.CreateKey(ctx, by, *in)
	return "key " + made.ARN, err
}

// checkCreate decides whether the caller may make this key.
func (m *Manager) checkCreate(ctx context.Context, by Caller, u *Use, id keyUUID, in CreateKeyInput) error {
	if err := checkLength("description", in.Description, 0, MaxDescription, false); err != nil {
		return err
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	switch in.Origin {
	case "", OriginToken:
	case OriginExternal:
		if _, err := m.importer(ctx); err != nil {
			return err
		}
	default:
		return fault(ErrUnsupported, "Origin can only be %s or %s", OriginToken, OriginExternal)
	}
	doc := m.builtin.key
	if in.Policy != "" {
		var err error
		if doc, err = m.parsePolicy(ctx, "", in.Policy); err != nil {
			return err
		}
	}
	k := &cmk{id: id, record: keyRecord{State: StateEnabled, Origin: in.Origin}, tags: tagMap(in.Tags), policy: doc}
	if err := m.authoriseCreate(ctx, by, u, k, in); err != nil {
		return err
	}
	if err := m.checkLockout(ctx, by, u, k, doc, in.Bypass); err != nil {
		return err
	}
	if in.Alias == "" {
		return nil
	}
	return m.view(ctx, func(r kv.Reader) error { return m.aliasFree(ctx, r, in.Alias) })
}

// authoriseCreate decides by identity policies: a key that does not exist has none. k is the key as it would be.
func (m *Manager) authoriseCreate(ctx context.Context, by Caller, u *Use, k *cmk, in CreateKeyInput) error {
	a := ask{conditions: func(c *policy.Context) {
		k.describeTo(c)
		c.RequestTags(k.tags)
		bypassCondition(in.Bypass)(c)
	}}
	if in.Alias != "" {
		if err := checkNewAlias(in.Alias); err != nil {
			return err
		}
		if err := m.authorise(ctx, by, u, "CreateAlias", nil, aliasARN(in.Alias), ask{}); err != nil {
			return err
		}
	}
	if len(in.Tags) > 0 {
		if err := m.authorise(ctx, by, u, "TagResource", nil, "", a); err != nil {
			return err
		}
	}
	return m.authorise(ctx, by, u, "CreateKey", nil, "", a)
}

func tagMap(tags []Tag) map[string]string {
	out := map[string]string{}
	for _, t := range tags {
		out[t.Key] = t.Value
	}
	return out
}

// generateKey makes the first backing key in the token; nothing is stored yet.
func (m *Manager) generateKey(ctx context.Context, id keyUUID, description string) (*cmk, error) {
	rec := keyRecord{Description: description, State: StateEnabled, Created: m.now().UTC(), Aliases: []string{}}
	v, err := m.generateVersion(ctx, id, 1)
	if err != nil {
		return nil, err
	}
	rec.Versions = []versionRecord{v}
	return newCMK(id, rec)
}

// externalKey is a key that waits for its material.
func (m *Manager) externalKey(id keyUUID, description string) (*cmk, error) {
	return newCMK(id, keyRecord{Description: description, State: StatePendingImport, Created: m.now().UTC(), Versions: []versionRecord{}, Aliases: []string{},
		Origin: OriginExternal, Import: &importRecord{}})
}

// newMaterialID draws one.
func newMaterialID() (id materialID, err error) {
	if _, err := rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("draw material id: %w", err)
	}
	return id, nil
}

// generateVersion makes a backing key in the token, labelled with the key's ARN and the version.
func (m *Manager) generateVersion(ctx context.Context, id keyUUID, number uint32) (versionRecord, error) {
	material, err := newMaterialID()
	if err != nil {
		return versionRecord{}, err
	}
	tokenKey := tokenKeyOf(material)
	info, err := m.token.GenerateKey(ctx, tokenKey, fmt.Sprintf("%s v%d", id.ARN(), number))
	if err != nil {
		return versionRecord{}, tokenFault(fmt.Errorf("generate backing key: %w", err), id.ARN())
	}
	return versionRecord{Number: number, Material: material.String(), TokenKey: tokenKey.String(),
		Check: hex.EncodeToString(info.CheckValue), Created: m.now().UTC()}, nil
}

// putNewKey stores a key with all its rows.
func (m *Manager) putNewKey(ctx context.Context, tx kv.Txn, k *cmk, in CreateKeyInput) error {
	rec := k.record
	if in.Alias != "" {
		if err := m.aliasFree(ctx, tx, in.Alias); err != nil {
			return err
		}
		rec.Aliases = []string{in.Alias}
		if err := m.putAlias(tx, in.Alias, k.id); err != nil {
			return err
		}
	}
	if err := m.putTags(tx, k.id, tagMap(in.Tags)); err != nil {
		return err
	}
	if in.Policy != "" {
		if err := m.rows.put(tx, key(rowPolicy, k.id[:]), policyRecord{Policy: in.Policy}); err != nil {
			return err
		}
	}
	for _, v := range k.versions {
		if err := m.rows.put(tx, key(rowMaterial, v.material[:]), materialRecord{Key: k.id.String(), Version: v.number}); err != nil {
			return err
		}
	}
	return m.rows.put(tx, key(rowKey, k.id[:]), rec)
}

// DescribeKey returns a key's metadata; keyID may be an alias. Errors: ErrNotFound, ErrInvalidArn, ErrValidation, ErrInvalidGrantToken, ErrAccessDenied, ErrRecord.
func (m *Manager) DescribeKey(ctx context.Context, by Caller, keyID string, tokens ...string) (KeyMetadata, error) {
	k, err := m.readable(ctx, by, "DescribeKey", ask{key: keyID, byAlias: true, tokens: tokens})
	if err != nil {
		return KeyMetadata{}, err
	}
	return k.metadata(), nil
}

// ListKeys lists the CMKs in the order of their ids. ErrValidation, ErrInvalidMarker, ErrAccessDenied, ErrRecord.
func (m *Manager) ListKeys(ctx context.Context, by Caller, page Page) (KeyList, error) {
	limit, from, err := page.start(rowKey, 100, 1000)
	if err := m.listable(ctx, by, "ListKeys", err); err != nil {
		return KeyList{}, err
	}
	var list KeyList
	_, hi := kindRange(rowKey)
	err = m.view(ctx, func(r kv.Reader) error {
		list = KeyList{}
		return r.Scan(ctx, from, hi, limit+1, func(k, _ []byte) bool {
			if len(list.Keys) == limit {
				list.NextMarker = marker(k)
				return false
			}
			if id := keyUUID(k[1:]); len(k) == 1+len(id) {
				list.Keys = append(list.Keys, KeyEntry{KeyID: id.String(), ARN: id.ARN()})
			}
			return true
		})
	})
	return list, err
}

// EnableKey makes a disabled key usable again, and rotates it if its period is over; on an enabled one it does nothing. keyID is an id or ARN. ErrNotFound, ErrInvalidState, and those that
// are ErrKeyUnavailable.
func (m *Manager) EnableKey(ctx context.Context, by Caller, keyID string) error {
	if err := m.setState(ctx, by, "EnableKey", keyID, StateEnabled); err != nil {
		return err
	}
	if n, err := parseKeyName(keyID); err == nil { // what it may have missed; Observe tries again
		_ = m.rotateIfDue(ctx, by, n.id)
	}
	return nil
}

// DisableKey makes a key unusable until EnableKey. When it has returned, no operation that starts uses the key; one under way may still finish.
// Errors as EnableKey.
func (m *Manager) DisableKey(ctx context.Context, by Caller, keyID string) error {
	return m.setState(ctx, by, "DisableKey", keyID, StateDisabled)
}

func (m *Manager) setState(ctx context.Context, by Caller, operation, keyID, state string) error {
	u := &Use{Operation: operation, Key: printable(keyID)}
	return m.changeKey(ctx, by, u, ask{key: keyID}, func(tx kv.Txn, k *cmk) error {
		rec := k.record
		rec.State = state
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})
}

// UpdateKeyDescription replaces the description of a key (id or ARN). ErrValidation, ErrNotFound, ErrInvalidState, ErrAccessDenied, and those that are
// ErrKeyUnavailable.
func (m *Manager) UpdateKeyDescription(ctx context.Context, by Caller, keyID, description string) error {
	u := &Use{Operation: "UpdateKeyDescription", Key: printable(keyID)}
	bad := checkLength("description", description, 0, MaxDescription, false)
	return m.changeKey(ctx, by, u, ask{key: keyID, bad: bad}, func(tx kv.Txn, k *cmk) error {
		rec := k.record
		rec.Description = description
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})
}

// admitted finds the key and decides: the request itself, the key, the caller's right, the key's state. The operation is u's, and u gets to know the key. Errors:
// ask.bad, ErrNotFound, ErrInvalidArn, ErrAccessDenied, those of allows, those of ask.look.
func (m *Manager) admitted(ctx context.Context, by Caller, u *Use, a ask) (*cmk, error) {
	if a.bad != nil {
		return nil, a.bad
	}
	k, err := m.resolve(ctx, a.key, a.byAlias)
	if err != nil {
		return nil, err
	}
	u.Key = k.id.ARN()
	if err := m.authorise(ctx, by, u, u.Operation, k, "", a); err != nil {
		return nil, err
	}
	if err := k.allows(u.Operation); err != nil {
		return nil, err
	}
	if a.look != nil {
		err = a.look(k)
	}
	return k, err
}

// readable is admitted for operations that only read; the decision is recorded.
func (m *Manager) readable(ctx context.Context, by Caller, operation string, a ask) (*cmk, error) {
	u := &Use{Operation: operation, Key: printable(a.key)}
	k, err := m.admitted(ctx, by, u, a)
	if err == nil {
		u.Decision = Allow
	}
	if err = m.record(ctx, by, u, err); err != nil {
		return nil, err
	}
	return k, nil
}

// listable decides about an operation that is about no key, and records the decision; bad is what is wrong with the request by itself.
func (m *Manager) listable(ctx context.Context, by Caller, operation string, bad error) error {
	u := &Use{Operation: operation}
	err := bad
	if err == nil {
		err = m.authorise(ctx, by, u, operation, nil, "", ask{})
	}
	if err == nil {
		u.Decision = Allow
	}
	return m.record(ctx, by, u, err)
}

// tokenKeyOf is the id in the token under which a new backing key is made.
func tokenKeyOf(id materialID) hsm.KeyID { return hsm.KeyID(id[:len(hsm.KeyID{})]) }
