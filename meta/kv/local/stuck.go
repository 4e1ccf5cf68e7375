package local

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Badger is stuck when it has reported so many errors within one call that has not returned. It tries again
// about once in a second.
const (
	stuckReports = 3
	stuckLook    = 200 * time.Millisecond
)

// errStuck: Badger goes on failing to write, and would for ever.
var errStuck = errors.New("the database below keeps failing to write")

// trouble counts what Badger reports as errors. What the disk refuses it tries again without end, in the
// background, and its callers wait: somebody has to notice. A nil trouble notices nothing.
type trouble struct{ reports atomic.Uint64 }

func (t *trouble) note() {
	if t != nil {
		t.reports.Add(1)
	}
}

func (t *trouble) count() uint64 {
	if t == nil {
		return 0
	}
	return t.reports.Load()
}

// bound calls do, and gives up on it with errStuck when Badger gets nowhere meanwhile. do goes on then, in
// vain: what it uses is lost until the process ends, Badger's lock on its directory included.
func bound[T any](t *trouble, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	before := t.count()
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	look := time.NewTicker(stuckLook)
	defer look.Stop()
	for {
		select {
		case r := <-done:
			return r.value, r.err
		case <-look.C:
			if t.count()-before >= stuckReports {
				var none T
				return none, errStuck
			}
		}
	}
}

// closeBadger closes the database. It writes once more before, although all of it is durable already.
func closeBadger(opts Options, db *badger.DB) error {
	_, err := bound(opts.trouble, func() (struct{}, error) { return struct{}{}, db.Close() })
	if err != nil {
		return fmt.Errorf("close %s: %w", metaDir(opts), err)
	}
	return nil
}

// bounded calls do, which writes to Badger. The store fails if Badger gets stuck.
func (s *Store) bounded(do func() error) error {
	_, err := bound(s.opts.trouble, func() (struct{}, error) { return struct{}{}, do() })
	if errors.Is(err, errStuck) {
		return s.fail(err)
	}
	return err
}
