package keymgr

import (
	"context"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// change is one change of the key store.
type change struct {
	use     *Use                                         // what is recorded of it
	second  *seconded                                    // what a second person is asked for; nil: nobody is
	check   func() (apply func(kv.Txn) error, err error) // decides, and returns the transaction
	prepare func() (undo func(), err error)              // does what has to be done outside the store before; nil: nothing
}

// change makes a change that nobody else need approve, and that is one of rows alone.
func (m *Manager) change(ctx context.Context, by Caller, u *Use, check func() (func(kv.Txn) error, error)) error {
	return m.perform(ctx, by, change{use: u, check: check})
}

// changeKey makes a change of one key: apply gets the key as it is in the transaction.
func (m *Manager) changeKey(ctx context.Context, by Caller, u *Use, a ask, apply func(kv.Txn, *cmk) error) error {
	return m.change(ctx, by, u, m.onKey(ctx, by, u, a, apply))
}

// onKey is the check of a change of one key.
func (m *Manager) onKey(ctx context.Context, by Caller, u *Use, a ask, apply func(kv.Txn, *cmk) error) func() (func(kv.Txn) error, error) {
	return func() (func(kv.Txn) error, error) {
		k, err := m.admitted(ctx, by, u, a)
		if err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error {
			k, err := m.loadKey(ctx, tx, k.id)
			if err != nil {
				return err
			}
			return apply(tx, k)
		}, nil
	}
}

// perform makes a change, one at a time. It is decided (a denial is recorded), the decision is recorded, it is prepared, and its transaction committed; what fails after the decision is recorded too.
// One that has to wait for a second person is only stored, and the answer is ErrApprovalRequired; when it was approved, the same call is answered by second.answer, and changes nothing.
func (m *Manager) perform(ctx context.Context, by Caller, c change) error {
	u := c.use
	if by.Via != "" {
		return m.record(ctx, by, u, fault(ErrAccessDenied, "%s is not for front ends to forward", u.Operation))
	}
	unlock, err := m.lockChanges(ctx)
	if err != nil {
		return m.record(ctx, by, u, err)
	}
	defer unlock()
	apply, refusal := c.check()
	if c.second != nil {
		if answered, err := m.answered(ctx, by, u, c.second, refusal); answered || err != nil {
			return err
		}
	}
	if refusal != nil {
		return m.record(ctx, by, u, refusal)
	}
	if c.second != nil {
		wait, err := m.waits(ctx, by, c.second)
		if err == nil && by.approved != nil {
			apply, err = m.usingUp(ctx, by, u, c.second, apply)
		}
		if err != nil {
			return m.record(ctx, by, u, err)
		}
		if wait {
			return m.postpone(ctx, by, u, c.second)
		}
	}
	u.Decision = Allow
	if err := m.record(ctx, by, u, nil); err != nil {
		return err
	}
	undo := func() {}
	if c.prepare != nil {
		if undo, err = c.prepare(); err != nil {
			return m.record(ctx, by, u, err)
		}
	}
	if err := m.commit(ctx, apply); err != nil {
		undo()
		return m.record(ctx, by, u, err)
	}
	return nil
}
