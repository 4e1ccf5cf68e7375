package keymgr

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// RotateKeyOnDemand gives a key (id or ARN) a new backing key, which encrypts from then on; the old ones go on decrypting what they encrypted. The schedule of
// rotation by period does not move. It returns the key's ARN. Errors: ErrNotFound, ErrDisabled, ErrInvalidState, ErrLimit, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) RotateKeyOnDemand(ctx context.Context, by Caller, keyID string) (arn string, err error) {
	u := &Use{Operation: "RotateKeyOnDemand", Key: printable(keyID)}
	err = m.rotate(ctx, by, u, RotationOnDemand, func() (*cmk, error) {
		return m.admitted(ctx, by, u, ask{key: keyID, look: m.checkRotations})
	})
	if err != nil {
		return "", err
	}
	return u.Key, nil
}

// checkRotations is nil if the key may be rotated on demand once more. ErrLimit.
func (m *Manager) checkRotations(k *cmk) error {
	n := 0
	for _, v := range k.versions {
		if v.rotation == RotationOnDemand {
			n++
		}
	}
	if m.awsLimits && n >= onDemandInAWS || len(k.versions) >= MaxVersions {
		return fault(ErrLimit, "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: %s", k.id.ARN())
	}
	return nil
}

// rotate adds a version to the key that find returns.
func (m *Manager) rotate(ctx context.Context, by Caller, u *Use, kind string, find func() (*cmk, error)) error {
	var k *cmk
	var v versionRecord
	return m.perform(ctx, by, change{use: u, check: func() (_ func(kv.Txn) error, err error) {
		if k, err = find(); err != nil {
			return nil, err
		}
		u.Version = k.current().number + 1
		return func(tx kv.Txn) error { return m.addVersion(ctx, tx, k.id, v) }, nil
	}, prepare: func() (undo func(), err error) {
		if v, err = m.generateVersion(ctx, k.id, u.Version); err != nil {
			return nil, err
		}
		v.Rotation = kind
		material, err := parseMaterial(v.Material)
		if err != nil {
			return nil, err
		}
		return func() { _ = m.token.DestroyKey(context.WithoutCancel(ctx), tokenKeyOf(material)) }, nil
	}})
}

// addVersion appends a backing key to a CMK. One that was made because its time had come sets the next time.
func (m *Manager) addVersion(ctx context.Context, tx kv.Txn, id keyUUID, v versionRecord) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Versions = append(slices.Clone(rec.Versions), v)
	if v.Rotation == RotationAutomatic && rec.Rotation != nil {
		rec.Rotation = &rotationRecord{Days: rec.Rotation.Days, Next: m.now().UTC().Add(days(rec.Rotation.Days))}
	}
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

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// EnableKeyRotation has a key (id or ARN) rotated every period days (MinPeriod to MaxPeriod; 0: as before, or DefaultPeriod). Errors: ErrValidation, ErrNotFound,
// ErrDisabled, ErrInvalidState, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) EnableKeyRotation(ctx context.Context, by Caller, keyID string, period int) error {
	u := &Use{Operation: "EnableKeyRotation", Key: printable(keyID)}
	var bad error
	if period != 0 {
		bad = checkRange("rotationPeriodInDays", period, MinPeriod, MaxPeriod)
		u.Detail = fmt.Sprintf("every %d days", period)
	}
	return m.changeKey(ctx, by, u, ask{key: keyID, bad: bad, conditions: func(c *policy.Context) {
		if period != 0 {
			c.Number("kms:RotationPeriodInDays", int64(period))
		} else {
			c.Number("kms:RotationPeriodInDays", DefaultPeriod)
			c.Defaulted("kms:RotationPeriodInDays")
		}
	}}, func(tx kv.Txn, k *cmk) error {
		rec := k.record
		n := period
		if n == 0 {
			n = DefaultPeriod
			if rec.Rotation != nil {
				n = rec.Rotation.Days
			}
		}
		if rec.Rotation == nil || rec.Rotation.Days != n {
			rec.Rotation = &rotationRecord{Days: n, Next: m.now().UTC().Add(days(n))}
		}
		if err := m.rows.put(tx, key(rowRotation, k.id[:]), struct{}{}); err != nil {
			return err
		}
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})
}

// DisableKeyRotation ends the rotation of a key (id or ARN) by period. Errors as EnableKeyRotation.
func (m *Manager) DisableKeyRotation(ctx context.Context, by Caller, keyID string) error {
	u := &Use{Operation: "DisableKeyRotation", Key: printable(keyID)}
	return m.changeKey(ctx, by, u, ask{key: keyID}, func(tx kv.Txn, k *cmk) error {
		rec := k.record
		rec.Rotation = nil
		tx.Delete(key(rowRotation, k.id[:]))
		return m.rows.put(tx, key(rowKey, k.id[:]), rec)
	})
}

// GetKeyRotationStatus says how a key (id or ARN) rotates. While its deletion is scheduled it does not. Errors: ErrNotFound, ErrAccessDenied.
func (m *Manager) GetKeyRotationStatus(ctx context.Context, by Caller, keyID string) (RotationStatus, error) {
	k, err := m.readable(ctx, by, "GetKeyRotationStatus", ask{key: keyID})
	if err != nil {
		return RotationStatus{}, err
	}
	out := RotationStatus{KeyID: k.id.String()}
	if r := k.record.Rotation; r != nil && k.record.State != StatePendingDeletion {
		out.Enabled, out.Days, out.Next = true, r.Days, r.Next
	}
	return out, nil
}

// ListKeyRotations lists the rotations of a key (id or ARN), oldest first; with all, its first material too. Errors: ErrNotFound, ErrValidation, ErrInvalidMarker,
// ErrAccessDenied.
func (m *Manager) ListKeyRotations(ctx context.Context, by Caller, keyID string, all bool, page Page) (RotationList, error) {
	k, err := m.readable(ctx, by, "ListKeyRotations", ask{key: keyID})
	if err != nil {
		return RotationList{}, err
	}
	versions := k.versions
	if !all {
		versions = versions[min(1, len(versions)):]
	}
	part, next, err := pageOf(page, versions, func(v version) string { return fmt.Sprintf("%08x", v.number) }, 100, 1000)
	list := RotationList{KeyID: k.id.String(), NextMarker: next}
	for _, v := range part {
		r := Rotation{MaterialID: v.material.String(), Current: v.number == k.current().number}
		if i := k.record.Import; i != nil {
			md := k.metadata()
			r.Import, r.Expiration, r.ValidTo = PendingImportState, md.Expiration, md.ValidTo
			if i.Present {
				r.Import = ImportedState
			}
		}
		if v.number > 1 {
			r.Date, r.Type = v.created, v.rotation
			if r.Type == "" {
				r.Type = RotationOnDemand // made before kinds were written
			}
		}
		list.Rotations = append(list.Rotations, r)
	}
	return list, err
}

// rotateIfDue rotates an enabled key whose period is over.
func (m *Manager) rotateIfDue(ctx context.Context, by Caller, id keyUUID) error {
	k, err := m.keyByID(ctx, id)
	if err != nil || !k.overdue(m.now()) {
		return err
	}
	u := &Use{Operation: "RotateKey", Key: id.ARN(), Detail: "its period is over"}
	return m.rotate(ctx, by, u, RotationAutomatic, func() (*cmk, error) {
		k, err := m.keyByID(ctx, id)
		if err == nil && !k.overdue(m.now()) {
			err = fault(ErrInvalidState, "%s is not due for rotation.", id.ARN())
		}
		return k, err
	})
}

// overdue reports whether the key is to be rotated.
func (k *cmk) overdue(now time.Time) bool {
	r := k.record.Rotation
	return k.record.State == StateEnabled && r != nil && !r.Next.After(now) && len(k.versions) < MaxVersions
}
