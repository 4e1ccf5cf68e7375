package keymgr

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Backup calls fn for every row of the key store, as it is stored (sealed), in the order of keys; key and value are only read, while fn runs. All of them are of one
// moment, and no change is made meanwhile; begin, called first, is told the generation. For the owner alone; it is recorded. Errors: ErrAccessDenied, ErrRecord, those of begin
// and fn, and those that are ErrKeyUnavailable.
func (m *Manager) Backup(ctx context.Context, by Caller, begin func(generation uint64) error, fn func(key, value []byte) error) error {
	u := &Use{Operation: "BackupKeyStore"}
	if err := ownerOnly(by, u.Operation); err != nil {
		return m.record(ctx, by, u, err)
	}
	unlock, err := m.lockChanges(ctx)
	if err != nil {
		return m.record(ctx, by, u, err)
	}
	defer unlock()
	u.Decision, u.Reason = Allow, "the owner"
	u.Detail = fmt.Sprintf("generation %d", m.newest.number)
	if err := m.record(ctx, by, u, nil); err != nil {
		return err
	}
	if err := begin(m.newest.number); err != nil {
		return err
	}
	return m.view(ctx, func(r kv.Reader) error {
		var bad error
		err := r.Scan(ctx, nil, nil, 0, func(k, v []byte) bool {
			bad = fn(k, v)
			return bad == nil
		})
		if bad != nil {
			return bad
		}
		return err
	})
}

// usesUnknown is how many uses of each backing key are taken to have been made between a backup and its restore.
const usesUnknown = 1 << 28

// Restored puts right what a key store from a backup cannot know: how often its backing keys have been used since, and, if newer volumes are to be accepted, that they may have gone on
// after they were closed. With newLog the audit log begins anew: the old one is not there. It is recorded with detail. Nobody else uses the key store yet.
func (m *Manager) Restored(ctx context.Context, by Caller, acceptNewer, newLog bool, detail string) error {
	u := &Use{Operation: "RestoreKeyStore", Alert: true, Detail: detail}
	if newLog {
		u.Detail += "; the audit log begins anew"
	}
	if acceptNewer {
		u.Detail += "; newer volumes are accepted"
	}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		if err := ownerOnly(by, u.Operation); err != nil {
			return nil, err
		}
		u.Reason = "the owner"
		return func(tx kv.Txn) error {
			if err := m.eachRow(ctx, tx, rowUses, func(k []byte) error { return m.addUses(ctx, tx, k) }); err != nil {
				return err
			}
			if newLog {
				if err := m.eachRow(ctx, tx, rowAuditHead, func(k []byte) error { tx.Delete(k); return nil }); err != nil {
					return err
				}
			}
			if !acceptNewer {
				return nil
			}
			return m.eachRow(ctx, tx, rowAnchor, func(k []byte) error { return m.uncleanAnchor(ctx, tx, k) })
		}, nil
	})
}

func (m *Manager) addUses(ctx context.Context, tx kv.Txn, k []byte) error {
	var rec usesRecord
	if _, err := m.rows.get(ctx, tx, k, &rec); err != nil {
		return err
	}
	rec.Reserved = min(rec.Reserved+usesUnknown, maxUses)
	return m.rows.put(tx, k, rec)
}

func (m *Manager) uncleanAnchor(ctx context.Context, tx kv.Txn, k []byte) error {
	var rec anchorRecord
	if _, err := m.rows.get(ctx, tx, k, &rec); err != nil {
		return err
	}
	rec.Clean = false
	return m.rows.put(tx, k, rec)
}

// eachRow calls fn for the key of every row of a kind, which it may write.
func (m *Manager) eachRow(ctx context.Context, tx kv.Txn, kind byte, fn func(k []byte) error) error {
	var keys [][]byte
	lo, hi := kindRange(kind)
	if err := tx.Scan(ctx, lo, hi, 0, func(k, _ []byte) bool {
		keys = append(keys, bytes.Clone(k))
		return true
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := fn(k); err != nil {
			return err
		}
	}
	return nil
}
