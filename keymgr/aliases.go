package keymgr

import (
	"context"
	"slices"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// CreateAlias gives a key (id or ARN) another name, "alias/…". Errors: ErrAlreadyExists, ErrNotFound, ErrValidation, ErrInvalidAlias,
// ErrNotAuthorized (reserved), ErrLimit, ErrInvalidState, and those that are ErrKeyUnavailable.
func (m *Manager) CreateAlias(ctx context.Context, by Caller, alias, keyID string) error {
	u := &Use{Operation: "CreateAlias", Key: printable(keyID), Detail: printable(alias)}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		k, err := m.admitted(ctx, by, u, ask{key: keyID, bad: checkNewAlias(alias)})
		if err == nil {
			err = m.authorise(ctx, by, u, u.Operation, nil, aliasARN(alias), ask{})
		}
		if err != nil {
			return nil, err
		}
		if len(k.record.Aliases) >= MaxAliases {
			return nil, fault(ErrLimit, "%s has %d aliases already", k.id.ARN(), len(k.record.Aliases))
		}
		if err := m.view(ctx, func(r kv.Reader) error { return m.aliasFree(ctx, r, alias) }); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return m.addAlias(ctx, tx, alias, k.id) }, nil
	})
}

func (m *Manager) addAlias(ctx context.Context, tx kv.Txn, alias string, id keyUUID) error {
	if err := m.aliasFree(ctx, tx, alias); err != nil {
		return err
	}
	if err := m.putAlias(tx, alias, id); err != nil {
		return err
	}
	return m.editAliases(ctx, tx, id, func(have []string) []string { return append(have, alias) })
}

// aliasParams is what is asked for when an alias is moved, or removed (no key).
type aliasParams struct {
	Alias string `json:"aliasName"`
	KeyID string `json:"targetKeyId,omitempty"`
}

func (in *aliasParams) describeTo(*policy.Context) {}

func (in *aliasParams) carryOut(ctx context.Context, m *Manager, by Caller, key string) (string, error) {
	if in.KeyID == "" {
		return in.Alias + " is removed", m.DeleteAlias(ctx, by, in.Alias)
	}
	return in.Alias + " is " + key, m.UpdateAlias(ctx, by, in.Alias, in.KeyID)
}

// UpdateAlias gives an alias to another key (id or ARN): whoever encrypts by the alias does so under that one from then on, which is why it is an alert and may need a second person. The key that had it may be
// in any state. Errors as CreateAlias, without ErrAlreadyExists, and ErrApprovalRequired.
func (m *Manager) UpdateAlias(ctx context.Context, by Caller, alias, keyID string) error {
	in := aliasParams{alias, keyID}
	u := &Use{Operation: "UpdateAlias", Key: printable(keyID), Detail: printable(alias), Alert: true}
	second := &seconded{params: in}
	return m.perform(ctx, by, change{use: u, second: second, check: func() (func(kv.Txn) error, error) {
		k, err := m.admitted(ctx, by, u, ask{key: keyID, bad: checkNewAlias(alias)})
		if err != nil {
			return nil, err
		}
		old, err := m.aliasTarget(ctx, by, u, alias)
		if err != nil {
			return nil, err
		}
		if k.id == old {
			second.free, u.Alert = by.approved == nil, false // nothing moves
			return func(kv.Txn) error { return nil }, nil
		}
		u.Detail += " from " + old.ARN()
		if len(k.record.Aliases) >= MaxAliases {
			return nil, fault(ErrLimit, "%s has %d aliases already", k.id.ARN(), len(k.record.Aliases))
		}
		return func(tx kv.Txn) error { return m.moveAlias(ctx, tx, alias, old, k.id) }, nil
	}})
}

// aliasTarget is the key that has the alias, if the caller may do u's operation to both.
func (m *Manager) aliasTarget(ctx context.Context, by Caller, u *Use, alias string) (keyUUID, error) {
	id, err := m.loadAlias(ctx, alias)
	if err != nil {
		return id, err
	}
	if err := m.authorise(ctx, by, u, u.Operation, nil, aliasARN(alias), ask{}); err != nil {
		return id, err
	}
	k, err := m.keyByID(ctx, id)
	if err != nil {
		return id, err
	}
	return id, m.authorise(ctx, by, u, u.Operation, k, "", ask{})
}

func (m *Manager) moveAlias(ctx context.Context, tx kv.Txn, alias string, from, to keyUUID) error {
	rec, err := m.readAlias(ctx, tx, alias)
	if err != nil {
		return err
	}
	rec.Key, rec.Updated = to.String(), m.now().UTC()
	if err := m.rows.put(tx, m.rows.aliasKey(alias), rec); err != nil {
		return err
	}
	if err := m.editAliases(ctx, tx, from, func(have []string) []string {
		return slices.DeleteFunc(have, func(a string) bool { return a == alias })
	}); err != nil {
		return err
	}
	return m.editAliases(ctx, tx, to, func(have []string) []string { return append(have, alias) })
}

// editAliases changes a key's list of aliases, which edit gets as a copy.
func (m *Manager) editAliases(ctx context.Context, tx kv.Txn, id keyUUID, edit func([]string) []string) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Aliases = edit(slices.Clone(rec.Aliases))
	slices.Sort(rec.Aliases)
	return m.rows.put(tx, key(rowKey, id[:]), rec)
}

// DeleteAlias removes a name, which another key can be given then: an alert, and guarded, as UpdateAlias. The key stays. Errors: ErrNotFound, ErrValidation, ErrInvalidAlias, ErrNotAuthorized (reserved),
// ErrApprovalRequired, and those that are ErrKeyUnavailable.
func (m *Manager) DeleteAlias(ctx context.Context, by Caller, alias string) error {
	u := &Use{Operation: "DeleteAlias", Detail: printable(alias), Alert: true}
	return m.perform(ctx, by, change{use: u, second: &seconded{params: aliasParams{Alias: alias}}, check: func() (func(kv.Txn) error, error) {
		if err := checkNewAlias(alias); err != nil {
			return nil, err
		}
		id, err := m.aliasTarget(ctx, by, u, alias)
		if err != nil {
			return nil, err
		}
		u.Key = id.ARN()
		return func(tx kv.Txn) error {
			tx.Delete(m.rows.aliasKey(alias))
			return m.editAliases(ctx, tx, id, func(have []string) []string {
				return slices.DeleteFunc(have, func(a string) bool { return a == alias })
			})
		}, nil
	}})
}

// ListAliases lists aliases, all or those of one key (id or ARN), in an order of its own. ErrValidation, ErrInvalidMarker, ErrNotFound.
func (m *Manager) ListAliases(ctx context.Context, by Caller, keyID string, page Page) (AliasList, error) {
	limit, from, err := page.start(rowAlias, 50, 100)
	if err := m.listable(ctx, by, "ListAliases", err); err != nil {
		return AliasList{}, err
	}
	want := ""
	if keyID != "" {
		k, err := m.resolve(ctx, keyID, false)
		if err != nil {
			return AliasList{}, err
		}
		want = k.id.String()
	}
	var list AliasList
	err = m.view(ctx, func(r kv.Reader) error {
		list = AliasList{}
		return m.scanAliases(ctx, r, from, func(rowKey []byte, rec aliasRecord) bool {
			if want != "" && rec.Key != want {
				return true
			}
			if len(list.Aliases) == limit {
				list.NextMarker = marker(rowKey)
				return false
			}
			list.Aliases = append(list.Aliases, AliasEntry{Name: rec.Name, ARN: aliasARN(rec.Name), TargetKeyID: rec.Key,
				Created: rec.Created, Updated: rec.Updated})
			return true
		})
	})
	return list, err
}

func (m *Manager) scanAliases(ctx context.Context, r kv.Reader, from []byte, fn func(rowKey []byte, rec aliasRecord) bool) error {
	_, hi := kindRange(rowAlias)
	var bad error
	err := r.Scan(ctx, from, hi, 0, func(k, v []byte) bool {
		var rec aliasRecord
		if bad = m.rows.open(k, v, &rec); bad != nil {
			return false
		}
		return fn(k, rec)
	})
	if bad != nil {
		return bad
	}
	return err
}

// aliasFree is nil if there is no such alias.
func (m *Manager) aliasFree(ctx context.Context, r kv.Reader, alias string) error {
	var rec aliasRecord
	found, err := m.rows.get(ctx, r, m.rows.aliasKey(alias), &rec)
	if err == nil && found {
		err = fault(ErrAlreadyExists, "An alias with the name %s already exists", aliasARN(alias))
	}
	return err
}

func (m *Manager) putAlias(tx kv.Txn, alias string, id keyUUID) error {
	now := m.now().UTC()
	return m.rows.put(tx, m.rows.aliasKey(alias), aliasRecord{Name: alias, Key: id.String(), Created: now, Updated: now})
}
