package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Snapshot is the state of the last checkpoint: what Badger holds, without the journal. It stays as it is until Release, and keeps no journal segments.
type Snapshot struct {
	store *Store
	base  *base
	point point
}

// ErrUnfinished: a checkpoint has failed half-way, and is to be finished first.
var ErrUnfinished = errors.New("a checkpoint is not finished")

// Snapshot returns the state of the last checkpoint, which the caller releases.
func (s *Store) Snapshot() (*Snapshot, error) {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	return s.snapshot()
}

// snapshot is Snapshot for who holds checkpointing.
func (s *Store) snapshot() (*Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, kv.ErrClosed
	}
	s.base.refs++
	s.calls.Add(1)
	return &Snapshot{store: s, base: s.base, point: s.lastCheckpoint.point}, nil
}

// HoldCheckpoints keeps checkpoints from happening until release is called, and returns the state of the last one: what was settled stays as it is
// meanwhile. Updates go on until the journal is full (Pressed). Errors: ErrUnfinished, kv.ErrClosed.
func (s *Store) HoldCheckpoints() (snap *Snapshot, release func(), err error) {
	s.checkpointing.Lock()
	if s.pending.generation != nil {
		s.checkpointing.Unlock()
		return nil, nil, ErrUnfinished
	}
	if snap, err = s.snapshot(); err != nil {
		s.checkpointing.Unlock()
		return nil, nil, err
	}
	return snap, s.checkpointing.Unlock, nil
}

// Pressed reports whether the journal needs a checkpoint before long: three quarters of it are in use.
func (s *Store) Pressed() bool {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.live() >= s.journal.maxLive/4*3
}

// Release gives the snapshot back.
func (n *Snapshot) Release() {
	s := n.store
	defer s.calls.Done()
	s.mu.Lock()
	done := s.unref(n.base)
	s.mu.Unlock()
	if done {
		s.retire(n.base)
	}
}

// Head returns the last record that is in the snapshot.
func (n *Snapshot) Head() Head { return Head{Sequence: n.point.seq, Tag: n.point.tag} }

// Get returns the value of a key, nil if it is absent; the caller owns it.
func (n *Snapshot) Get(key []byte) ([]byte, error) {
	if !validKey(key) {
		return nil, kv.ErrInvalid
	}
	v, err := n.base.get(key)
	return bytes.Clone(v), err
}

// Since calls fn for every row in which older and n differ, in the order of keys: was is its value in older, is in n; nil: absent. Both are valid
// during the call. A nil older is empty.
func (n *Snapshot) Since(ctx context.Context, older *Snapshot, fn func(key, was, is []byte) error) error {
	if older != nil && older.base == n.base {
		return nil
	}
	now := n.base.scan(nil, nil)
	defer now.close()
	if older == nil {
		return differ(ctx, nothing{}, now, fn)
	}
	then := older.base.scan(nil, nil)
	defer then.close()
	return differ(ctx, then, now, fn)
}

// nothing is a source without rows.
type nothing struct{}

func (nothing) key() []byte                  { return nil }
func (nothing) value() ([]byte, bool, error) { return nil, false, nil }
func (nothing) next()                        {}
func (nothing) failed() error                { return nil }

// differ walks two sources side by side.
func differ(ctx context.Context, then, now source, fn func(key, was, is []byte) error) error {
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		a, b := then.key(), now.key()
		if err := errors.Join(then.failed(), now.failed()); err != nil {
			return fmt.Errorf("compare two states: %w", err)
		}
		if a == nil && b == nil {
			return nil
		}
		order := 0
		switch {
		case a == nil:
			order = 1
		case b == nil:
			order = -1
		default:
			order = bytes.Compare(a, b)
		}
		if err := pair(then, now, order, fn); err != nil {
			return err
		}
	}
}

// pair gives fn the lower row of two, or both if order is 0, and goes past it.
func pair(then, now source, order int, fn func(key, was, is []byte) error) (err error) {
	var key, was, is []byte
	if order <= 0 {
		key = then.key()
		if was, err = valueOfRow(then); err != nil {
			return err
		}
	}
	if order >= 0 {
		key = now.key()
		if is, err = valueOfRow(now); err != nil {
			return err
		}
	}
	if !bytes.Equal(was, is) {
		err = fn(key, was, is)
	}
	if order <= 0 {
		then.next()
	}
	if order >= 0 {
		now.next()
	}
	return err
}

func valueOfRow(s source) ([]byte, error) {
	v, present, err := s.value()
	if !present || err != nil {
		return nil, err
	}
	return v, nil
}
