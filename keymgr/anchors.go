package keymgr

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Anchor returns the volume's anchor. ErrNotFound if it never had one.
func (m *Manager) Anchor(ctx context.Context, id blockcrypt.VolumeID) (a Anchor, err error) {
	err = m.view(ctx, func(r kv.Reader) error {
		a, err = m.readAnchor(ctx, r, id)
		return err
	})
	return a, err
}

func (m *Manager) readAnchor(ctx context.Context, r kv.Reader, id blockcrypt.VolumeID) (Anchor, error) {
	var rec anchorRecord
	found, err := m.rows.get(ctx, r, key(rowAnchor, id[:]), &rec)
	if err != nil {
		return Anchor{}, err
	}
	if !found {
		return Anchor{}, fault(ErrNotFound, "volume %s has no anchor", id)
	}
	head, err := hex.DecodeString(rec.Head)
	a := Anchor{Generation: rec.Generation, Sequence: rec.Sequence, Clean: rec.Clean}
	if err != nil || len(head) != len(a.Head) {
		return Anchor{}, fmt.Errorf("anchor of volume %s: %w", id, errRow)
	}
	copy(a.Head[:], head)
	return a, nil
}

// AdvanceAnchor replaces the volume's anchor by a newer one; when it returns nil the new one survives a power cut. The caller has made the state that
// it names durable before. ErrRollback, and no change, if a lies before the present anchor in generation or sequence, or is the same place with
// another head. Not recorded in the key-use log.
func (m *Manager) AdvanceAnchor(ctx context.Context, id blockcrypt.VolumeID, a Anchor) error {
	if id.IsZero() {
		return fault(ErrValidation, "the volume has no id")
	}
	apply := func(tx kv.Txn) error {
		old, err := m.readAnchor(ctx, tx, id)
		if err == nil {
			err = old.allows(a)
		} else if classOf(err) == ErrNotFound {
			err = nil
		}
		if err != nil {
			return err
		}
		return m.putAnchor(tx, id, a)
	}
	if a.Clean { // nothing after it is accepted, so a key store from before it is not, either
		unlock, err := m.lockChanges(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		return m.commit(ctx, apply)
	}
	rev, err := m.store.Update(ctx, kv.OpID{}, apply)
	if err == nil {
		err = m.store.Sync(ctx, rev)
	}
	return storeFault(err)
}

// allows is nil if next may follow old.
func (old Anchor) allows(next Anchor) error {
	if next.Generation < old.Generation || next.Sequence < old.Sequence {
		return fault(ErrRollback, "the anchor is at generation %d, sequence %d; offered is %d, %d",
			old.Generation, old.Sequence, next.Generation, next.Sequence)
	}
	if next.Generation == old.Generation && next.Sequence == old.Sequence && next.Head != old.Head {
		return fault(ErrRollback, "the anchor at generation %d, sequence %d has another head than the one offered", old.Generation, old.Sequence)
	}
	return nil
}

// RestoreAnchor sets the anchor to any state, after an operator's decision to accept an older volume; it is recorded with the reason (1 to 1024
// characters). ErrValidation, and those that are ErrKeyUnavailable.
func (m *Manager) RestoreAnchor(ctx context.Context, by Caller, id blockcrypt.VolumeID, a Anchor, reason string) error {
	u := &Use{Operation: "RestoreAnchor", Alert: true, Detail: fmt.Sprintf("volume %s, generation %d, sequence %d: %s", id, a.Generation, a.Sequence, reason)}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		if err := ownerOnly(by, u.Operation); err != nil {
			return nil, err
		}
		if id.IsZero() {
			return nil, fault(ErrValidation, "the volume has no id")
		}
		if err := checkLength("reason", reason, 1, 1024, false); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return m.putAnchor(tx, id, a) }, nil
	})
}

func (m *Manager) putAnchor(tx kv.Txn, id blockcrypt.VolumeID, a Anchor) error {
	return m.rows.put(tx, key(rowAnchor, id[:]), anchorRecord{Generation: a.Generation, Sequence: a.Sequence, Head: hex.EncodeToString(a.Head[:]), Clean: a.Clean})
}
