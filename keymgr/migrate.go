package keymgr

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// BackingKey is a key of a CMK in the token.
type BackingKey struct {
	Token hsm.KeyID
	Check []byte // its check value
	Label string // for people who look at the token with other tools
}

// ExportRows calls fn for every row of the key store, as Backup does, and returns the backing keys that go with them: for a move to another token. For the owner alone; it is recorded as an alert with detail. Nobody
// changes anything until the key store is closed. Errors as Backup.
func (m *Manager) ExportRows(ctx context.Context, by Caller, detail string, fn func(key, value []byte) error) ([]BackingKey, error) {
	u := &Use{Operation: "MigrateKeyStore", Detail: detail, Alert: true}
	if err := ownerOnly(by, u.Operation); err != nil {
		return nil, m.record(ctx, by, u, err)
	}
	unlock, err := m.lockChanges(ctx)
	if err != nil {
		return nil, m.record(ctx, by, u, err)
	}
	defer unlock()
	u.Decision, u.Reason = Allow, "the owner"
	if err := m.record(ctx, by, u, nil); err != nil {
		return nil, err
	}
	var keys []BackingKey
	err = m.view(ctx, func(r kv.Reader) error {
		keys = nil
		var bad error
		err := r.Scan(ctx, nil, nil, 0, func(k, v []byte) bool {
			if bad = fn(k, v); bad == nil && k[0] == rowKey {
				bad = m.backingKeys(k, v, &keys)
			}
			return bad == nil
		})
		if bad != nil {
			return bad
		}
		return err
	})
	return keys, err
}

// backingKeys adds those of a CMK's row.
func (m *Manager) backingKeys(k, v []byte, keys *[]BackingKey) error {
	var rec keyRecord
	if err := m.rows.open(k, v, &rec); err != nil {
		return err
	}
	if len(k) != 1+len(keyUUID{}) {
		return fmt.Errorf("key row %x: %w", k, errRow)
	}
	md, err := newCMK(keyUUID(k[1:]), rec)
	if err != nil {
		return err
	}
	for i, v := range md.versions {
		check, err := hex.DecodeString(rec.Versions[i].Check)
		if err != nil {
			return fmt.Errorf("check value of key %s: %w", md.id, errRow)
		}
		if rec.Import != nil && !rec.Import.Present || !rec.Versions[i].Destroyed.IsZero() {
			continue // there is none any more
		}
		*keys = append(*keys, BackingKey{Token: v.tokenKey, Check: check, Label: fmt.Sprintf("%s v%d", md.id.ARN(), v.number)})
	}
	return nil
}

// Migrated puts right a key store whose backing keys were brought into another token, of which nobody else uses it yet. With from, the kind of the token that they were made in and have been outside of this one, each
// version says so, and keys that rotate get a new version, made in this token, so that the old ones only decrypt from then on. The audit log begins anew. It is recorded as an alert. The generation is told to the
// token, or that is the error. Errors: ErrRecord, those of the token, and those that are ErrKeyUnavailable.
func (m *Manager) Migrated(ctx context.Context, by Caller, from, detail string) error {
	u := &Use{Operation: "MigrateKeyStore", Detail: detail + "; the audit log begins anew", Alert: true, Reason: "the owner"}
	var renew []keyUUID
	err := m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		return func(tx kv.Txn) error {
			renew = nil
			if err := m.eachRow(ctx, tx, rowAuditHead, func(k []byte) error { tx.Delete(k); return nil }); err != nil {
				return err
			}
			tx.Delete(key(rowAuditKey, nil))
			if from == "" {
				return nil
			}
			return m.eachRow(ctx, tx, rowKey, func(k []byte) error { return m.noteOrigin(ctx, tx, k, from, &renew) })
		}, ownerOnly(by, u.Operation)
	})
	if err == nil {
		err = m.untold
	}
	for _, id := range renew {
		err = errors.Join(err, m.renew(ctx, by, id))
	}
	return err
}

// noteOrigin writes into a CMK's row where its versions were made.
func (m *Manager) noteOrigin(ctx context.Context, tx kv.Txn, row []byte, from string, renew *[]keyUUID) error {
	id := keyUUID(row[1:])
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Versions = append([]versionRecord(nil), rec.Versions...)
	for i := range rec.Versions {
		if rec.Versions[i].MadeIn == "" {
			rec.Versions[i].MadeIn = from
		}
	}
	if rec.State == StateEnabled && rec.Import == nil && len(rec.Versions) < MaxVersions {
		*renew = append(*renew, id)
	}
	return m.rows.put(tx, row, rec)
}

// renew gives a key a backing key of this token.
func (m *Manager) renew(ctx context.Context, by Caller, id keyUUID) error {
	u := &Use{Operation: "RotateKey", Key: id.ARN(), Detail: "its backing key came from another token"}
	return m.rotate(ctx, by, u, RotationOnDemand, func() (*cmk, error) { return m.keyByID(ctx, id) })
}
