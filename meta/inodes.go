package meta

import (
	"context"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// inodeBatch is how many inode numbers one transaction reserves. What a crash leaves unused is lost.
const inodeBatch = 1024

// inodeAllocator hands out inode numbers that were reserved in the counter row. No number is handed out twice, ever.
type inodeAllocator struct {
	mu        sync.Mutex
	next, end Ino // reserved and not handed out: [next, end)
}

// newIno returns a fresh inode number. It must not be called within a transaction.
func (s *Store) newIno(ctx context.Context) (Ino, error) {
	a := &s.inodes
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == a.end {
		first, err := s.reserveInodes(ctx)
		if err != nil {
			return 0, fmt.Errorf("reserve inode numbers: %w", err)
		}
		a.next, a.end = first, first+inodeBatch
	}
	ino := a.next
	a.next++
	return ino, nil
}

// reserveInodes advances the counter by a batch and returns the batch's first number.
func (s *Store) reserveInodes(ctx context.Context) (Ino, error) {
	var first uint64
	key := counterKey(counterInode)
	_, err := s.kv.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
		vals, err := tx.Get(ctx, key)
		if err != nil {
			return err
		}
		if vals[0] == nil {
			return fmt.Errorf("counter of inode numbers is missing: %w", ErrCorrupt)
		}
		plain, err := s.rows.open(key, vals[0])
		if err != nil {
			return err
		}
		if first, err = decodeCounter(plain); err != nil {
			return err
		}
		if first <= uint64(RootIno) || first+inodeBatch < first {
			return fmt.Errorf("next inode number is %d: %w", first, ErrCorrupt)
		}
		sealed, err := s.rows.seal(key, encodeCounter(first+inodeBatch))
		if err != nil {
			return err
		}
		tx.Put(key, sealed)
		return nil
	})
	return Ino(first), err
}
