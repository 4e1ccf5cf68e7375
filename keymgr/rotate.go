package keymgr

import (
	"context"
	"slices"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// RotateKeyOnDemand gives a key (id or ARN) a new backing key, which encrypts from then on; the old ones go on decrypting what they encrypted. Errors: ErrNotFound,
// ErrDisabled, ErrInvalidState, and those that are ErrKeyUnavailable.
func (m *Manager) RotateKeyOnDemand(ctx context.Context, by Caller, keyID string) error {
	u := &Use{Operation: "RotateKeyOnDemand", Key: printable(keyID)}
	var k *cmk
	var v versionRecord
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		var err error
		if k, err = m.resolve(ctx, keyID, false); err != nil {
			return nil, err
		}
		u.Key, u.Version = k.id.ARN(), k.current().number+1
		if err := k.usable(); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return m.addVersion(ctx, tx, k.id, v) }, nil
	}, func() (undo func(), err error) {
		if v, err = m.generateVersion(ctx, k.id, u.Version); err != nil {
			return nil, err
		}
		material, err := parseMaterial(v.Material)
		if err != nil {
			return nil, err
		}
		return func() { _ = m.token.DestroyKey(context.WithoutCancel(ctx), tokenKeyOf(material)) }, nil
	})
}

// addVersion appends a backing key to a CMK.
func (m *Manager) addVersion(ctx context.Context, tx kv.Txn, id keyUUID, v versionRecord) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Versions = append(slices.Clone(rec.Versions), v)
	next, err := newCMK(id, rec)
	if err != nil {
		return err
	}
	material := next.current().material
	if err := m.rows.put(tx, key(rowMaterial, material[:]), materialRecord{Key: id.String(), Version: v.Number}); err != nil {
		return err
	}
	return m.rows.put(tx, key(rowKey, id[:]), rec)
}
