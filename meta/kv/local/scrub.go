package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// ErrRemains: rows that were deleted are still in Badger's tables after a scrub, because something read older states while tables were merged. A later
// scrub, after more changes, finds them in tables that it may rewrite.
var ErrRemains = errors.New("local: deleted rows remain in tables")

// scrubEvery is how often is looked whether readers of older states are gone.
const scrubEvery = 10 * time.Millisecond

var (
	scrubKey = []byte("\x00scrub") // written for the time of a scrub, and never read
	errScrub = errors.New("is written anew by a scrub")
)

// Scrub returns when no file of the store holds rows any more that were deleted before the call: the journal's files are written over with zeros, Badger's tables
// and the export are written anew, without what is superseded. Rows that were replaced go too, but for those that were pinned by readers. What files, copies and
// the storage below had before is not reached. Updates go on, and reads that reach Badger wait for some of it. It waits for all snapshots that were taken before.
//
// Errors: Checkpoint's; ErrRemains.
func (s *Store) Scrub(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if s.opts.ReadOnly {
		return kv.ErrReadOnly
	}
	s.scrubbing.Lock()
	defer s.scrubbing.Unlock()
	s.journal.supply.cleanly(true)
	defer s.journal.supply.cleanly(false)
	number, err := s.renewJournal(ctx)
	if err == nil {
		err = s.checkpoint(ctx, false)
	}
	if err == nil {
		err = s.outlive(ctx, number)
	}
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	defer s.drowse()
	if err := s.rouse(); err != nil {
		return fmt.Errorf("scrub tables: %w", err)
	}
	if err := s.scrubTables(ctx); err != nil {
		return fmt.Errorf("scrub tables: %w", err)
	}
	if err := s.scrubExport(ctx); err != nil {
		return fmt.Errorf("scrub the metadata export: %w", err)
	}
	return nil
}

// renewJournal writes over what is spare and goes on in a file without old records. It returns the number of its segment.
func (s *Store) renewJournal(ctx context.Context) (uint64, error) {
	if err := s.journal.supply.scrub(); err != nil {
		return 0, err
	}
	for {
		s.journal.mu.Lock()
		err := s.journal.rotate(0)
		seg := s.journal.current
		s.journal.mu.Unlock()
		switch {
		case err == nil:
			return seg.number, s.journal.settleHeader(seg)
		case errors.Is(err, errNoSpare):
			err = s.journal.supply.wait(ctx, 0)
		case errors.Is(err, errFull):
			err = s.checkpoint(ctx, false)
		}
		if err != nil {
			return 0, err
		}
	}
}

// settleHeader makes a segment's header durable: without records in it no sync would.
func (j *journal) settleHeader(seg *segment) error {
	if err := seg.file.Datasync(); err != nil {
		return fmt.Errorf("sync segment %d: %w", seg.number, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.flushed = true
	return nil
}

// outlive waits until nobody needs segments before the one with a number, or states of Badger before the last checkpoint.
func (s *Store) outlive(ctx context.Context, number uint64) error {
	tick := time.NewTicker(scrubEvery)
	defer tick.Stop()
	for {
		head, _ := s.journal.mark()
		if err := s.syncTo(ctx, head.seq); err != nil { // a segment goes when the one after it is durable
			return err
		}
		s.reclaim()
		s.mu.Lock()
		pinned := len(s.stamps) > 0 && s.stamps[0] != s.base.stamp
		s.mu.Unlock()
		if !pinned && !s.journal.hasBefore(number) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hasBefore tells whether segments before the one with a number are still in use.
func (j *journal) hasBefore(number uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.sealed) > 0 && j.sealed[0].number < number
}

// scrubTables has Badger write its log into tables, and merge all of them into one level, which leaves out what is superseded. Called with checkpointing held.
func (s *Store) scrubTables(ctx context.Context) error {
	err := s.bounded(func() error {
		s.stamp++
		batch := s.db.NewWriteBatchAt(s.stamp)
		defer batch.Cancel()
		if err := batch.Set(scrubKey, []byte{1}); err != nil { // without it Badger thinks that there is nothing to do
			return err
		}
		if err := batch.Flush(); err != nil {
			return err
		}
		if err := s.db.DropPrefix(scrubKey); err != nil {
			return err
		}
		return s.db.Flatten(1)
	})
	if err == nil {
		err = s.syncBase()
	}
	if err != nil {
		return err
	}
	left, err := s.deletedRows(ctx)
	if err == nil && left > 0 {
		err = fmt.Errorf("%d rows: %w", left, ErrRemains)
	}
	return err
}

// deletedRows counts the rows in Badger's tables whose newest version is a deletion.
func (s *Store) deletedRows(ctx context.Context) (n int, err error) {
	err = shield(func() error {
		txn := s.db.NewTransactionAt(latest, false)
		defer txn.Discard()
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
		defer it.Close()
		var last []byte
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			if bytes.Equal(key, last) {
				continue
			}
			last = append(last[:0], key...)
			if it.Item().IsDeletedOrExpired() {
				n++
			}
			if n%1024 == 1023 && ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	return n, err
}

// scrubExport writes the export anew as one file. Called with checkpointing held.
func (s *Store) scrubExport(ctx context.Context) error {
	if s.export == nil {
		return nil
	}
	if err := s.export.renounce(ctx); err != nil {
		return err
	}
	s.exportBehind(ctx)
	_, _, behind := s.export.state()
	return behind
}

// renounce has the next file hold the whole state, when no files are being merged any more.
func (x *exporter) renounce(ctx context.Context) error {
	tick := time.NewTicker(scrubEvery)
	defer tick.Stop()
	for {
		x.mu.Lock()
		merging := x.merging
		if !merging {
			x.behind = errScrub
		}
		x.mu.Unlock()
		if !merging {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cleanly says whether files are written over with zeros when they come back.
func (p *supply) cleanly(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clean = on
}

// scrub writes over the files that are spare. One that cannot be written is removed.
func (p *supply) scrub() error {
	p.mu.Lock()
	spare := p.spare
	p.spare = nil
	p.mu.Unlock()
	var first error
	for _, f := range spare {
		if err := p.give(f); err != nil && first == nil {
			first = err
		}
	}
	return first
}
