package keymgr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// ScheduleKeyDeletion has a key (id or ARN) deleted after window days (MinWindow to MaxWindow; 0: MaxWindow). From now on it cannot be used. The days are those that a
// running key manager observes: time in which none runs does not count, and neither does a clock that is set forward (see Observe). Volumes that
// depend on the key are named in the key-use log and do not prevent anything, as in AWS. Errors: ErrValidation, ErrNotFound, ErrInvalidState, ErrAccessDenied,
// and those that are ErrKeyUnavailable.
func (m *Manager) ScheduleKeyDeletion(ctx context.Context, by Caller, keyID string, window int) (ScheduledDeletion, error) {
	if window == 0 {
		window = MaxWindow
	}
	in := scheduleParams{KeyID: keyID, Days: window}
	u := &Use{Operation: "ScheduleKeyDeletion", Key: printable(keyID), Alert: true}
	out := scheduleAnswer{Days: window}
	bad := checkRange("pendingWindowInDays", window, MinWindow, MaxWindow)
	a := ask{key: keyID, bad: bad, conditions: in.describeTo, look: func(k *cmk) error {
		dependents, err := m.dependents(ctx, k)
		u.Detail = fmt.Sprintf("in %d days%s", window, dependents)
		u.Response = map[string]any{"keyId": u.Key, "keyState": StatePendingDeletion, "pendingWindowInDays": window}
		return err
	}}
	err := m.perform(ctx, by, change{use: u, second: &seconded{params: in, answer: &out}, check: m.onKey(ctx, by, u, a, func(tx kv.Txn, k *cmk) error {
		now := m.now().UTC()
		rec := k.record
		rec.State = StatePendingDeletion
		rec.Deletion = &deletionRecord{Requested: now, Days: window, Remaining: days(window), Due: now.Add(days(window))}
		out.KeyID, out.DeletionDate = k.id.ARN(), rec.Deletion.Due
		if err := m.rows.put(tx, key(rowDeletion, k.id[:]), struct{}{}); err != nil {
			return err
		}
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})})
	if err != nil {
		return ScheduledDeletion{}, err
	}
	return ScheduledDeletion(out), nil
}

type scheduleParams struct {
	KeyID string `json:"keyId"`
	Days  int    `json:"pendingWindowInDays"`
}

func (in *scheduleParams) describeTo(c *policy.Context) {
	c.Number("kms:ScheduleKeyDeletionPendingWindowInDays", int64(in.Days))
}

func (in *scheduleParams) carryOut(ctx context.Context, m *Manager, by Caller, _ string) (string, error) {
	out, err := m.ScheduleKeyDeletion(ctx, by, in.KeyID, in.Days)
	return fmt.Sprintf("%s will be deleted in %d days", out.KeyID, out.Days), err
}

// dependents names the volumes whose volume key is wrapped by the key.
func (m *Manager) dependents(ctx context.Context, k *cmk) (string, error) {
	all, err := m.ListVolumes(ctx, Caller{})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, v := range all {
		if any, _ := v.WrappedBy(k.id.ARN()); any {
			ids = append(ids, v.ID.String())
		}
	}
	if len(ids) == 0 {
		return "", nil
	}
	more := ""
	if len(ids) > 16 {
		more = fmt.Sprintf(" and %d more", len(ids)-16)
		ids = ids[:16]
	}
	return "; volumes: " + strings.Join(ids, " ") + more, nil
}

// CancelKeyDeletion keeps a key (id or ARN) whose deletion is scheduled; it is disabled then. It returns the key's ARN. Errors as ScheduleKeyDeletion.
func (m *Manager) CancelKeyDeletion(ctx context.Context, by Caller, keyID string) (arn string, err error) {
	u := &Use{Operation: "CancelKeyDeletion", Key: printable(keyID)}
	err = m.changeKey(ctx, by, u, ask{key: keyID}, func(tx kv.Txn, k *cmk) error {
		arn = k.id.ARN()
		rec := k.record
		rec.State, rec.Deletion = StateDisabled, nil
		if rec.Import != nil && !rec.Import.Present {
			rec.State = StatePendingImport
		}
		tx.Delete(key(rowDeletion, k.id[:]))
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})
	if err != nil {
		return "", err
	}
	return arn, nil
}

// ConfirmKeyDeletion lets a scheduled deletion go on that a jump of the clock has suspended; on any other it does nothing. Not AWS'. Errors as ScheduleKeyDeletion.
func (m *Manager) ConfirmKeyDeletion(ctx context.Context, by Caller, keyID string) error {
	u := &Use{Operation: "ConfirmKeyDeletion", Key: printable(keyID)}
	return m.changeKey(ctx, by, u, ask{key: keyID}, func(tx kv.Txn, k *cmk) error {
		rec, d := k.record, *k.record.Deletion
		d.Suspended, d.Due = false, m.now().UTC().Add(d.Remaining)
		rec.Deletion = &d
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})
}

// deleteKey removes a key whose time is up: its rows, then its backing keys in the token. What is not finished is finished by the next Observe.
func (m *Manager) deleteKey(ctx context.Context, by Caller, id keyUUID) error {
	u := &Use{Operation: "DeleteKey", Key: id.ARN()}
	err := m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		dependents, err := m.dependents(ctx, &cmk{id: id})
		if err != nil {
			return nil, err
		}
		u.Detail = "its window is over" + dependents
		return func(tx kv.Txn) error { return m.removeKey(ctx, tx, id) }, nil
	})
	if err != nil {
		return err
	}
	return m.removeRemains(ctx, id)
}

// removeKey deletes all rows of a key but those that removeRemains goes through. ErrInvalidState if it is not due.
func (m *Manager) removeKey(ctx context.Context, tx kv.Txn, id keyUUID) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	if !k.due() {
		return fault(ErrInvalidState, "%s is not due for deletion.", id.ARN())
	}
	var rec remainsRecord
	for _, v := range k.versions {
		rec.TokenKeys = append(rec.TokenKeys, v.tokenKey.String())
		tx.Delete(key(rowMaterial, v.material[:]))
		tx.Delete(key(rowUses, v.material[:]))
	}
	for _, a := range k.record.Aliases {
		tx.Delete(m.rows.aliasKey(a))
	}
	for _, kind := range []byte{rowKey, rowPolicy, rowTags, rowDeletion, rowRotation, rowExpiry} {
		tx.Delete(key(kind, id[:]))
	}
	return m.rows.put(tx, key(rowRemains, id[:]), rec)
}

// due reports whether the key's deletion is to be carried out.
func (k *cmk) due() bool {
	d := k.record.Deletion
	return k.record.State == StatePendingDeletion && d != nil && !d.Suspended && d.Remaining <= 0
}

// removeRemains destroys the backing keys of a deleted key and removes its grants.
func (m *Manager) removeRemains(ctx context.Context, id keyUUID) error {
	var rec remainsRecord
	err := m.view(ctx, func(r kv.Reader) error {
		rec = remainsRecord{}
		_, err := m.rows.get(ctx, r, key(rowRemains, id[:]), &rec)
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range rec.TokenKeys {
		tokenKey, err := hsm.ParseKeyID(s)
		if err != nil {
			return fmt.Errorf("remains of key %s: %v: %w", id, err, errRow)
		}
		if err := m.token.DestroyKey(ctx, tokenKey); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
			return tokenFault(fmt.Errorf("destroy backing key: %w", err), id.ARN())
		}
	}
	if err := m.removeGrants(ctx, id); err != nil {
		return err
	}
	return m.update(ctx, func(tx kv.Txn) error {
		tx.Delete(key(rowRemains, id[:]))
		return nil
	})
}
