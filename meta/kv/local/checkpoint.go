package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// frozen is an overlay on its way into Badger, with the point of the chain where it was frozen.
type frozen struct {
	*generation
	at       point
	appended int64
	ops      int64
	stamp    uint64      // of its rows in Badger; set when they are written
	table    *freshTable // of Badger with its rows
}

// Checkpoint brings everything committed before the call into Badger, durably, and settles the
// journal-only rows. Updates go on meanwhile. Checkpoints run one after another. If it fails, nothing is
// lost and a later one does the work. Errors: kv.ErrFailed, kv.ErrNoSpace, kv.ErrReadOnly, and the
// Settler's.
func (s *Store) Checkpoint(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if s.opts.ReadOnly {
		return kv.ErrReadOnly
	}
	return s.checkpoint(ctx, false)
}

// checkpoint finishes a checkpoint that failed before, if there is one, and makes a new one if there is
// something to bring. clean marks the store closed.
func (s *Store) checkpoint(ctx context.Context, clean bool) error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	defer s.drowse()
	for {
		if err := s.failure(); err != nil {
			return err
		}
		again := s.pending.generation != nil
		if !again && !s.freeze() {
			s.exportBehind(ctx)
			if !clean {
				return nil
			}
			return s.mark(s.lastCheckpoint, true)
		}
		err := s.bring(ctx, s.pending, clean && !again)
		s.takeBack()
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		if !again {
			return nil
		}
	}
}

// freeze makes the active overlay the pending one. It is the only step that keeps updates out. false if
// there is nothing in it.
func (s *Store) freeze() bool {
	began := time.Now()
	s.commit.Lock()
	defer s.commit.Unlock()
	if s.active.tree.Len() == 0 {
		return false
	}
	s.pending = frozen{generation: s.active}
	s.journal.freeze(&s.pending)
	next := newGeneration(s.active.number + 1)
	s.active.next.Store(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generations = append(s.generations, next)
	s.frozen, s.active = s.active, next
	s.pause = time.Since(began)
	return true
}

// bring takes the frozen overlay through the steps that end with its rows in Badger. Each step may be done
// again: until the checkpoint row is durable, recovery starts from the one before.
func (s *Store) bring(ctx context.Context, f frozen, clean bool) error {
	began := time.Now()
	defer func() {
		s.mu.Lock()
		s.brought += time.Since(began)
		s.mu.Unlock()
	}()
	if err := s.rouse(); err != nil {
		return err
	}
	s.stamp++
	f.stamp = s.stamp
	if err := s.checkRoom(s.journal.uncovered(f.appended), s.journal.uncoveredOps(f.ops)); err != nil {
		return err
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"sync the journal", func() error { return s.syncTo(ctx, f.at.seq) }},
		{"settle rows", func() error { return s.settle(ctx, f) }},
		{"sync what was settled", func() error { return s.syncSettled(ctx) }},
		{"write rows", func() error {
			return s.bounded(func() (err error) { f.table, err = s.writeRows(ctx, f); return err })
		}},
		{"sync rows", s.syncBase},
		{"export rows", func() error { s.exportRows(ctx, f); return ctx.Err() }},
		{"write the checkpoint row", func() error {
			return s.mark(checkpoint{point: f.at, stamp: f.stamp, table: f.table.tag}, clean)
		}},
	}
	for _, step := range steps {
		s.at(step.name)
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	s.at("drop the overlay")
	s.release(f)
	// What follows the checkpoint becomes durable too, so that the segments before it can go.
	head, _ := s.journal.mark()
	if err := s.syncTo(ctx, head.seq); err != nil && ctx.Err() == nil {
		return err
	}
	s.reclaim()
	return nil
}

// settle hands the newest journal-only rows to the Settler. Their records are durable.
func (s *Store) settle(ctx context.Context, f frozen) (err error) {
	f.tree.Ascend(func(c item) bool {
		if c.newest.loc.seg == nil {
			return true
		}
		if err = ctx.Err(); err != nil {
			return false
		}
		if s.opts.Settler == nil {
			err = errors.New("there are journal-only rows and no settler")
			return false
		}
		var v []byte
		if v, err = c.newest.loc.read(); err == nil {
			err = s.opts.Settler.Settle(ctx, c.key, v)
		}
		return err == nil
	})
	return err
}

// syncSettled makes durable what rows point to.
func (s *Store) syncSettled(ctx context.Context) error {
	if s.opts.Settler == nil {
		return nil
	}
	err := s.opts.Settler.Sync(ctx)
	if err != nil && ctx.Err() == nil {
		return s.fail(err)
	}
	return err
}

// writeRows puts the newest version of every key into Badger, under a timestamp that nobody reads at yet, and with them the
// freshness table that they make of the last one.
func (s *Store) writeRows(ctx context.Context, f frozen) (_ *freshTable, err error) {
	present := newBase(s.db, latest, nil) // sees what a checkpoint cut short has left
	defer present.discard()
	batch := s.db.NewWriteBatchAt(f.stamp)
	defer batch.Cancel()
	update := s.base.table.update(s.base)
	f.tree.Ascend(func(c item) bool {
		if err = ctx.Err(); err == nil {
			err = s.writeRow(batch, present, update, c)
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	next, rows, err := update.finish()
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.value == nil {
			err = batch.Delete(r.key)
		} else {
			err = batch.Set(r.key, r.value)
		}
		if err != nil {
			return nil, err
		}
	}
	return next, batch.Flush()
}

// writeRow adds one row to the batch and to the table. A key that Badger does not have needs no tombstone.
func (s *Store) writeRow(batch *badger.WriteBatch, present *base, update *tableUpdate, c item) error {
	if c.newest.loc.seg != nil || s.journalOnly(c.key) {
		return nil
	}
	if err := update.add(change{c.key, c.newest.value}); err != nil { // nil: deleted
		return err
	}
	if !c.newest.deleted {
		return batch.Set(c.key, c.newest.value)
	}
	old, err := present.raw(c.key)
	if err != nil || old == nil {
		return err
	}
	return batch.Delete(c.key)
}

// syncBase makes Badger durable. After a failure a later sync would report success for pages that were
// lost, so the store fails.
func (s *Store) syncBase() error {
	if err := syncBadger(metaDir(s.opts)); err != nil {
		return s.fail(fmt.Errorf("sync %s: %w", metaDir(s.opts), err))
	}
	s.at("(badger is synced)")
	return nil
}

// mark writes the checkpoint row, durably. The rows it speaks for are durable already: a row that got to
// disk before them would be a hole in the history.
func (s *Store) mark(c checkpoint, clean bool) error {
	if err := s.rouse(); err != nil {
		return err
	}
	c.clean = clean
	c.generation = s.generation
	s.mu.Lock()
	c.heads = s.heads.before(c.point.seq)
	s.mu.Unlock()
	s.stamp++ // a timestamp of its own: rows never share one with a row that is written again
	if err := s.bounded(func() error { return writeCheckpoint(s.db, s.checkpointKey, c, s.stamp) }); err != nil {
		return err
	}
	s.at("sync the checkpoint row")
	if err := s.syncBase(); err != nil {
		return err
	}
	s.lastCheckpoint = c
	return nil
}

// release drops the frozen overlay and recycles what only it needed.
func (s *Store) release(f frozen) {
	s.pending = frozen{}
	s.journal.cover(f)
	fresh := newBase(s.db, f.stamp, f.table)
	s.mu.Lock()
	old := s.base
	s.base, s.frozen = fresh, nil
	s.stamps = append(s.stamps, f.stamp)
	f.refs--
	done := s.unref(old)
	s.checkpoints++
	s.checkpointed = f.at.seq
	s.mu.Unlock()
	if done {
		s.retire(old)
	}
}

// background runs checkpoints that updates wait for, one at a time.
type background struct {
	mu      sync.Mutex
	running *checkpointRun
	do      func() error
	wg      sync.WaitGroup
}

type checkpointRun struct {
	done chan struct{}
	err  error // valid when done is closed
}

// start returns the run that is under way, or a new one.
func (b *background) start() *checkpointRun {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running != nil {
		return b.running
	}
	run := &checkpointRun{done: make(chan struct{})}
	b.running = run
	b.wg.Add(1)
	go func() {
		defer b.wg.Done()
		run.err = b.do()
		b.mu.Lock()
		b.running = nil
		b.mu.Unlock()
		close(run.done)
	}()
	return run
}
