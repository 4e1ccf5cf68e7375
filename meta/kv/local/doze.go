package local

import (
	"context"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// dozeAfter is how long after the last checkpoint Badger is put to sleep.
const dozeAfter = 10 * time.Second

// doze is Badger asleep: its compactors look every 50 ms whether there is something to merge, which is nearly all that an idle store does. They, and all that writes, are stopped by a stream writer
// that prepares and never writes, and go on when it is cancelled (docs/adr/0058-badger-asleep.md: why there is no other way; tests fail where another version of Badger does it otherwise). Reading goes on.
// Whoever writes to Badger calls rouse before. Guarded by Store.checkpointing, but for timer.
type doze struct {
	asleep *badger.StreamWriter // nil: it is awake
	ended  bool                 // the store is being closed

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil before the store is open and when it is closed
}

// drowse puts Badger to sleep when nothing has been written for a while from now on.
func (s *Store) drowse() {
	d := &s.doze
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Reset(dozeAfter)
	}
}

// startDozing is called when the store is open for writing.
func (s *Store) startDozing() {
	s.doze.mu.Lock()
	defer s.doze.mu.Unlock()
	s.doze.timer = time.AfterFunc(dozeAfter, s.sleep)
}

// sleep puts Badger to sleep, if there is nothing to do; looks again later otherwise. An export for which there was no room is written as soon as there is some.
func (s *Store) sleep() {
	if !s.checkpointing.TryLock() {
		s.drowse()
		return
	}
	defer s.checkpointing.Unlock()
	if s.doze.ended || s.doze.asleep != nil || s.failure() != nil {
		return
	}
	if s.exportLate() {
		s.exportBehind(context.Background())
		s.drowse()
		return
	}
	if s.merging() || s.ballast != nil && s.leaves(s.need(0, 0)) != nil {
		s.drowse()
		return
	}
	err := s.bounded(func() error {
		// The row that is there already, once more: where nothing is in its table in memory, preparing would merge all tables that there are.
		s.stamp++
		if err := writeCheckpoint(s.db, s.checkpointKey, s.lastCheckpoint, s.stamp); err != nil {
			return err
		}
		w := s.db.NewStreamWriter()
		_ = w.PrepareIncremental() // it refuses to write, because there is something in memory, when all has been stopped
		s.doze.asleep = w
		return nil
	})
	if err != nil {
		s.log.Warn("the idle database goes on looking for work", "error", err)
	}
}

// merging says whether tables are due to be merged.
func (s *Store) merging() bool {
	for _, l := range s.db.Levels() {
		if l.Score >= 1 {
			return true
		}
	}
	return false
}

// rouse lets Badger write again, if it is asleep. Called with checkpointing held.
func (s *Store) rouse() error {
	w := s.doze.asleep
	if w == nil {
		return nil
	}
	return s.bounded(func() error {
		w.Cancel()
		s.doze.asleep = nil
		return nil
	})
}

// endDozing wakes Badger up for good.
func (s *Store) endDozing() error {
	s.doze.mu.Lock()
	if s.doze.timer != nil {
		s.doze.timer.Stop()
		s.doze.timer = nil
	}
	s.doze.mu.Unlock()
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	s.doze.ended = true
	return s.rouse()
}
