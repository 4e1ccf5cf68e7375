package keymgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// observation is when the clocks were read last, by both of them. Only Observe uses it, and whoever does has taken turn.
type observation struct {
	turn    chan struct{}
	wall    time.Time
	elapsed time.Duration
}

// Observe does what time asks for: it counts the time since the last call towards scheduled deletions, deletes keys that are due, rotates keys whose period
// is over, takes away imported material that has expired, and finishes deletions that were interrupted. Whoever runs a Manager calls it every few minutes, in its own name (by).
//
// Time counts by the monotonic clock. Where the last call lies more than an hour back, or the wall clock moved by an hour more or less than the monotonic one,
// nothing counts, and scheduled deletions stop until ConfirmKeyDeletion: somebody set the clock, or the machine slept. Time between two Managers counts for nothing.
// It goes on after an error and returns all of them.
func (m *Manager) Observe(ctx context.Context, by Caller) error {
	select {
	case m.observed.turn <- struct{}{}:
		defer func() { <-m.observed.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	step, jumped := m.observed.step(m.now(), m.elapsed())
	return errors.Join(m.retellToken(ctx), m.endEmergency(ctx, by), m.countDown(ctx, by, step, jumped), m.eachOf(ctx, rowExpiry, func(ctx context.Context, id keyUUID) error {
		return m.expireMaterial(ctx, by, id)
	}), m.eachOf(ctx, rowRemains, m.removeRemains), m.eachOf(ctx, rowRotation, func(ctx context.Context, id keyUUID) error {
		return m.rotateIfDue(ctx, by, id)
	}))
}

// step reads the clocks and says how much time has passed, and whether one of them jumped.
func (o *observation) step(wall time.Time, elapsed time.Duration) (step time.Duration, jumped bool) {
	step = elapsed - o.elapsed
	apart := wall.Round(0).Sub(o.wall.Round(0)) - step // without the monotonic reading that a time.Time has
	o.wall, o.elapsed = wall, elapsed
	if step < 0 || step > maxObservedStep || apart.Abs() > maxObservedStep {
		return 0, true
	}
	return step, false
}

// countDown counts time towards all scheduled deletions and carries out those that are due.
func (m *Manager) countDown(ctx context.Context, by Caller, step time.Duration, jumped bool) error {
	return m.eachOf(ctx, rowDeletion, func(ctx context.Context, id keyUUID) error {
		due := false
		u := &Use{Operation: "SuspendKeyDeletion", Key: id.ARN(), Detail: "the clock has jumped", Decision: Allow}
		suspended, err := m.countDownOne(ctx, id, step, jumped, &due)
		if suspended && err == nil {
			err = m.record(ctx, by, u, nil)
		}
		if due && err == nil {
			err = m.deleteKey(ctx, by, id)
		}
		return err
	})
}

func (m *Manager) countDownOne(ctx context.Context, id keyUUID, step time.Duration, jumped bool, due *bool) (suspended bool, err error) {
	unlock, err := m.lockChanges(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	err = m.update(ctx, func(tx kv.Txn) error {
		k, err := m.loadKey(ctx, tx, id)
		if err != nil {
			return err
		}
		if k.record.Deletion == nil {
			return fmt.Errorf("key %s has no deletion: %w", id, errRow)
		}
		rec, d := k.record, *k.record.Deletion
		rec.Deletion = &d
		suspended = jumped && !d.Suspended
		switch {
		case jumped:
			d.Suspended = true
		case !d.Suspended:
			d.Remaining -= step
			d.Due = m.now().UTC().Add(d.Remaining)
		default:
			return nil
		}
		*due = (&cmk{record: rec}).due()
		return m.rows.put(tx, key(rowKey, id[:]), rec)
	})
	return suspended, err
}

// eachOf calls fn for every key that has a row of the kind, and joins the errors.
func (m *Manager) eachOf(ctx context.Context, kind byte, fn func(context.Context, keyUUID) error) error {
	var ids []keyUUID
	lo, hi := kindRange(kind)
	err := m.view(ctx, func(r kv.Reader) error {
		ids = nil
		return r.Scan(ctx, lo, hi, 0, func(k, _ []byte) bool {
			if len(k) == 1+len(keyUUID{}) {
				ids = append(ids, keyUUID(k[1:]))
			}
			return true
		})
	})
	errs := []error{err}
	for _, id := range ids {
		if err := fn(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}
