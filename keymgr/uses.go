package keymgr

import (
	"context"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// A backing key encrypts with random 96-bit IVs, so the number of its uses is bounded (NIST SP 800-38D, 8.3: 2^32). Uses are reserved ahead in the
// store, so that a crash forgets none; what was reserved and not used is lost. Tokens that take a subkey for each use are counted all the same.
const (
	maxUses      = 1<<32 - 1<<20
	usesReserved = 1 << 14 // at a time
)

// useCounter hands out uses of backing keys.
type useCounter struct {
	m     *Manager
	limit uint64 // maxUses; less in tests

	mu struct {
		sync.Mutex
		windows map[materialID]*useWindow
	}
}

// useWindow is what is left of a reservation; whoever has taken turn owns the other fields.
type useWindow struct {
	turn      chan struct{}
	next, end uint64
}

func (c *useCounter) init(m *Manager) {
	c.m, c.limit = m, maxUses
	c.mu.windows = map[materialID]*useWindow{}
}

// take counts one use of a version's backing key. ErrLimit when there are none left: the key needs a new version.
func (c *useCounter) take(ctx context.Context, k *cmk, v *version) error {
	w := c.window(v.material)
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for a use of %s: %w", k.id.ARN(), ctx.Err())
	}
	defer func() { <-w.turn }()
	if w.next == w.end {
		next, end, err := c.reserve(ctx, k, v)
		if err != nil {
			return err
		}
		w.next, w.end = next, end
	}
	w.next++
	return nil
}

func (c *useCounter) window(id materialID) *useWindow {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.mu.windows[id]
	if w == nil {
		w = &useWindow{turn: make(chan struct{}, 1)}
		c.mu.windows[id] = w
	}
	return w
}

// reserve takes the next uses out of the store, durably.
func (c *useCounter) reserve(ctx context.Context, k *cmk, v *version) (next, end uint64, err error) {
	rev, err := c.m.store.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
		var rec usesRecord
		row := key(rowUses, v.material[:])
		if _, err := c.m.rows.get(ctx, tx, row, &rec); err != nil {
			return err
		}
		if rec.Reserved >= c.limit {
			return fault(ErrLimit, "version %d of %s has been used %d times; rotate the key.", v.number, k.id.ARN(), rec.Reserved)
		}
		next = rec.Reserved
		end = min(next+usesReserved, c.limit)
		return c.m.rows.put(tx, row, usesRecord{Reserved: end})
	})
	if err == nil {
		err = c.m.store.Sync(ctx, rev)
	}
	return next, end, storeFault(err)
}
