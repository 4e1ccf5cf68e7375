package local

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Badger is stuck when within one call that has not returned it has reported so many errors, or so many
// warnings. It tries to write a table again about once in a second, which is an error each time, and to
// merge tables about forty times in a second, which is two warnings; other warnings are rare.
const (
	stuckErrors   = 3
	stuckWarnings = 400
	stuckLook     = 200 * time.Millisecond
)

// errStuck: Badger goes on failing to write, and would for ever.
var errStuck = errors.New("the database below keeps failing to write")

// trouble counts what Badger reports. What the disk refuses it tries again without end, in the background,
// and its callers wait: for a table to be written, or for tables to be merged so that there is room for
// one. Somebody has to notice. A nil trouble notices nothing.
type trouble struct {
	errors, warnings atomic.Uint64
	halted           atomic.Pointer[error] // merging was halted because of that
}

// since returns a function that tells whether Badger is stuck, judging by what it has reported since.
func (t *trouble) since() (stuck func() error) {
	if t == nil {
		return func() error { return nil }
	}
	errors, warnings := t.errors.Load(), t.warnings.Load()
	return func() error {
		if p := t.halted.Load(); p != nil {
			return fmt.Errorf("%w: %w", errStuck, *p)
		}
		if t.errors.Load()-errors < stuckErrors && t.warnings.Load()-warnings < stuckWarnings {
			return nil
		}
		return errStuck
	}
}

// bound calls do, and gives up on it with errStuck when Badger gets nowhere meanwhile. do goes on then, in
// vain: what it uses is lost until the process ends, Badger's lock on its directory included.
func bound[T any](t *trouble, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	stuck := t.since()
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
			if err := stuck(); err != nil {
				var none T
				return none, err
			}
		}
	}
}

// closeBadger closes the database. It writes once more before, although all of it is durable already.
func closeBadger(opts Options, db *badger.DB) error {
	_, err := bound(opts.trouble, func() (struct{}, error) { return struct{}{}, db.Close() })
	if err != nil {
		return fmt.Errorf("close %s: %w", metaDir(opts), explained(metaDir(opts), err))
	}
	return nil
}

// explained adds to errStuck what the system says to a write of our own, if that fails as well: Badger's reports are text.
func explained(dir string, err error) error {
	if !errors.Is(err, errStuck) {
		return err
	}
	if cause := tryWrite(dir); cause != nil {
		return fmt.Errorf("%w: %w", err, noSpace(cause))
	}
	return err
}

// bounded calls do, which writes to Badger. The store fails if Badger gets stuck.
func (s *Store) bounded(do func() error) error {
	_, err := bound(s.opts.trouble, func() (struct{}, error) { return struct{}{}, do() })
	if errors.Is(err, errStuck) {
		return s.fail(explained(metaDir(s.opts), err))
	}
	return err
}
