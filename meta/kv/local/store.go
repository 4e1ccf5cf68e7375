package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Limits of a transaction, in bytes but for maxOps. Small segments lower them.
const (
	maxOps      = 1 << 16
	maxTxnBytes = 4 << 20
	maxKey      = 1 << 10
	maxValue    = 128 << 10
)

// Store is a kv.Store on the local disk. Make one with Create and Open. All methods may be called
// concurrently.
//
// Lock order: checkpointing, commit, mu; journal.mu and generation.mu are taken last and held for moments.
// Never: I/O under mu; a call of the Settler or of a View's function under commit or mu.
type Store struct {
	opts          Options
	caps          kv.Caps
	log           *slog.Logger
	db            *badger.DB
	keys          *keyRoom
	checkpointKey *blockcrypt.Key // HMAC key of the checkpoint row
	fresh         *freshKeys      // of the freshness table
	journal       *journal
	ballast       *ballast  // nil: the room on the disk is not looked at
	export        *exporter // nil: there is none
	generation    uint64    // of this opening
	recovered     Recovery
	opened        []File        // by recovery
	due           chan struct{} // CheckpointDue
	calls         sync.WaitGroup
	failed        atomic.Pointer[error]
	unswept       atomic.Bool // Unswept
	durable       durability
	background    background
	doze          doze
	conflicts     atomic.Uint64
	step          func(string) // tests: called before each step of a checkpoint

	checkpointing  sync.Mutex // held by the checkpoint that runs; guards the next two
	scrubbing      sync.Mutex // held by the one Scrub at a time
	pending        frozen     // the frozen overlay and where it was frozen; the zero value if there is none
	stamp          uint64     // Badger's newest timestamp
	lastCheckpoint checkpoint

	commit sync.Mutex // held while a transaction commits or the overlay freezes

	mu           sync.Mutex // guards what follows
	seq          uint64     // newest visible record
	active       *generation
	frozen       *generation
	base         *base
	stamps       []uint64      // of the bases in use, ascending
	generations  []*generation // that may be in use, oldest first, the active one last
	live         liveSet
	heads        headLog
	closed       bool
	updates      uint64
	checkpoints  uint64
	checkpointed uint64
	pause        time.Duration
	brought      time.Duration
}

var _ kv.Store = (*Store)(nil)

// withDefaults checks and completes options.
func (o Options) withDefaults() (Options, error) {
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.MaxJournal == 0 {
		o.MaxJournal = max(DefaultMaxJournal, minSegments*o.SegmentSize)
	}
	if o.MaxOverlay == 0 {
		o.MaxOverlay = DefaultMaxOverlay
	}
	if o.MinFree == 0 {
		o.MinFree = minFree(memTable(o))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.trouble = new(trouble)
	if o.Files == nil {
		o.Files = osFiles{journalDir(o)}
	}
	switch {
	case o.Dir == "" || o.Key == nil:
		return o, fmt.Errorf("directory or key missing: %w", kv.ErrInvalid)
	case o.SegmentSize < minSegmentSize || o.SegmentSize > maxSegmentSize:
		return o, fmt.Errorf("segment size %d: %w", o.SegmentSize, kv.ErrInvalid)
	case o.MaxJournal < minSegments*o.SegmentSize:
		return o, fmt.Errorf("journal of %d bytes with segments of %d: %w", o.MaxJournal, o.SegmentSize, kv.ErrInvalid)
	}
	return o, nil
}

// firstSegment returns the size of a new journal's segments. They grow with it.
func firstSegment(opts Options) int64 { return min(leastSegment, opts.SegmentSize) }

// capsFor returns the limits under which any transaction fits into a segment: half of it for keys and
// values, 11/64 at most for the heads of ops, the rest for headers.
func capsFor(segmentSize int64) kv.Caps {
	txn := min(maxTxnBytes, int(segmentSize/2))
	return kv.Caps{
		MaxOps:      min(maxOps, int(segmentSize/64)),
		MaxTxnBytes: txn,
		MaxKey:      maxKey,
		MaxValue:    min(maxValue, txn-maxKey),
		Exclusive:   true,
	}
}

// Create makes the directories and an empty store under opts.Dir, durably, and closes it again. Only Dir,
// Volume, Key, SegmentSize, MaxJournal, MinFree, Log and Files are used. Errors: fs.ErrExist if there is a store
// already, kv.ErrNoSpace, kv.ErrLocked.
func Create(ctx context.Context, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	opts.ReadOnly = false
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := roomToCreate(opts); err != nil {
		return err
	}
	for _, dir := range []string{opts.Dir, metaDir(opts), journalDir(opts)} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return noSpace(err)
		}
	}
	db, err := openBadger(opts)
	if err != nil {
		return err
	}
	if err := format(db, opts); err != nil {
		closeBadger(opts, db)
		return err
	}
	if err := closeBadger(opts, db); err != nil {
		return err
	}
	for _, dir := range []string{metaDir(opts), journalDir(opts), opts.Dir} {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// format writes the first checkpoint row.
func format(db *badger.DB, opts Options) error {
	key, err := checkpointMACKey(opts.Key, opts.Volume)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if _, ok, err := readCheckpoint(db, key); ok || err != nil {
		return fmt.Errorf("create a store in %s: %w", opts.Dir, errors.Join(fs.ErrExist, err))
	}
	keys, err := newFreshKeys(opts.Key, opts.Volume)
	if err != nil {
		return err
	}
	defer keys.wipe()
	table, rows, err := emptyTable(keys)
	if err != nil {
		return err
	}
	batch := db.NewWriteBatchAt(firstStamp)
	defer batch.Cancel()
	for _, r := range rows {
		if err := batch.Set(r.key, r.value); err != nil {
			return err
		}
	}
	if err := batch.Flush(); err != nil {
		return err
	}
	if err := writeCheckpoint(db, key, checkpoint{clean: true, stamp: firstStamp, table: table.tag}, firstStamp); err != nil {
		return err
	}
	return syncBadger(metaDir(opts))
}

// Open opens the store under opts.Dir and recovers what the last checkpoint does not hold. It blocks while
// it reads the journal. Errors: kv.ErrLocked if another process has it, kv.ErrRollback, kv.ErrCorrupt (a
// wrong key or volume too), fs.ErrNotExist if there is none, kv.ErrNoSpace if Badger could not be
// opened safely, and what opts.Replay returns. A disk without room for a journal segment does not stop it.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	room, err := openRoom(opts)
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", opts.Dir, err)
	}
	db, err := openBadger(opts)
	if err != nil {
		room.close()
		return nil, err
	}
	keys, err := newKeyRoom()
	if err != nil {
		room.close()
		closeBadger(opts, db)
		return nil, fmt.Errorf("open the store in %s: %w", opts.Dir, err)
	}
	s := newStore(opts, db, keys)
	s.ballast = room
	if err := s.open(ctx); err != nil {
		s.dismantle()
		return nil, fmt.Errorf("open the store in %s: %w", opts.Dir, err)
	}
	if !opts.ReadOnly {
		s.startDozing()
	}
	return s, nil
}

func newStore(opts Options, db *badger.DB, keys *keyRoom) *Store {
	s := &Store{
		opts: opts,
		caps: capsFor(opts.SegmentSize),
		log:  opts.Log,
		db:   db,
		keys: keys,
		due:  make(chan struct{}, 1),
		journal: &journal{
			key:     keys.keep(opts.Key),
			volume:  opts.Volume,
			maxLive: opts.MaxJournal,
			supply:  &supply{files: opts.Files, least: firstSegment(opts), most: opts.SegmentSize, max: opts.MaxJournal},
		},
		active: newGeneration(1),
		step:   opts.Step,
	}
	s.opts.Key = nil
	s.journal.supply.room, s.journal.supply.grown = s.segmentRoom, s.fillBallast
	s.generations = []*generation{s.active}
	s.background.do = func() error { return s.checkpoint(context.Background(), false) }
	return s
}

// open recovers and starts a new segment.
func (s *Store) open(ctx context.Context) (err error) {
	mac, err := checkpointMACKey(s.journal.key, s.opts.Volume)
	if err != nil {
		return err
	}
	s.checkpointKey = s.keys.move(mac)
	last, ok, err := readCheckpoint(s.db, s.checkpointKey)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("no checkpoint row: %w", kv.ErrCorrupt)
	}
	s.lastCheckpoint, s.checkpointed = last, last.point.seq
	if err := s.openBase(last); err != nil {
		return err
	}
	if s.opts.Export && !s.opts.ReadOnly {
		if s.export, err = openExporter(s.opts, s.journal.key); err != nil {
			return fmt.Errorf("open the metadata export: %w", err)
		}
		s.export.room, s.export.spare = s.exportRoom, s.exportSpare
	}
	if err := s.recover(ctx, last); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return nil
	}
	s.fillBallast()
	return s.begin(ctx)
}

// openBase takes the state of the last checkpoint. What a checkpoint cut short has written is younger, and not seen.
func (s *Store) openBase(last checkpoint) (err error) {
	if s.fresh, err = newFreshKeys(s.journal.key, s.opts.Volume); err != nil {
		return err
	}
	s.fresh.mac = s.keys.move(s.fresh.mac)
	s.stamp = max(s.db.MaxVersion(), last.stamp)
	s.base = newBase(s.db, last.stamp, nil)
	s.stamps = []uint64{last.stamp}
	s.db.SetDiscardTs(last.stamp)
	s.base.table, err = openTable(s.fresh, s.base, last.table)
	return err
}

// begin opens this generation's first segment. Without room for it the store opens all the same: it can be
// read, and written to when there is room.
func (s *Store) begin(ctx context.Context) error {
	for {
		s.journal.mu.Lock()
		err := s.journal.rotate(0)
		s.journal.mu.Unlock()
		if errors.Is(err, errNoSpare) {
			err = s.journal.supply.wait(ctx, 0)
			if err == nil {
				continue
			}
		}
		if errors.Is(err, kv.ErrNoSpace) {
			s.log.Warn("no room for a journal segment: updates fail until there is", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := s.journal.flush(); err != nil {
			return err
		}
		s.reclaim()
		return s.reserve(ctx)
	}
}

// reserve has a second segment made now, while there is room: with two, a checkpoint can always free one,
// also when the disk has become full.
func (s *Store) reserve(ctx context.Context) error {
	err := s.journal.supply.wait(ctx, 0)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("no room for a spare journal segment", "error", err)
		return nil
	}
	return err
}

// dismantle releases what a failed Open has taken.
func (s *Store) dismantle() {
	s.journal.supply.close()
	for _, f := range s.opened {
		f.Close()
	}
	s.ballast.close()
	if s.journal.current != nil {
		s.journal.current.file.Close()
	}
	if s.base != nil {
		s.base.discard()
	}
	closeBadger(s.opts, s.db)
	s.wipe()
}

func (s *Store) wipe() { s.keys.close() }

// enter counts a call that Close has to wait for.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// failure returns why the store has failed, nil if it has not.
func (s *Store) failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes the store read-only for good, and returns the error that says so.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w: %w", kv.ErrFailed, cause)
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("store failed: it is read-only until it is opened again", "error", cause)
	}
	return s.failure()
}

// Fail makes the store kv.ErrFailed for good: something outside of it, that its rows speak of, has failed.
func (s *Store) Fail(cause error) { _ = s.fail(cause) }

// at tells tests which step of a checkpoint is next.
func (s *Store) at(step string) {
	if s.step != nil {
		s.step(step)
	}
}

// journalOnly reports whether rows under key never enter Badger.
func (s *Store) journalOnly(key []byte) bool {
	return s.opts.Settler != nil && s.opts.Settler.JournalOnly(key)
}

// validKey reports whether callers may use a key. Keys that begin with 0x00 are this package's, those with
// "!badger!" Badger's.
func validKey(k []byte) bool {
	return len(k) > 0 && k[0] != 0 && (k[0] != '!' || len(k) < 8 || string(k[:8]) != "!badger!")
}

// Caps returns the limits of the store. Journal-only values may be longer than MaxValue, up to
// MaxTxnBytes.
func (s *Store) Caps() kv.Caps { return s.caps }

// CheckpointDue returns a channel that receives when the journal has grown past half of MaxJournal since
// the last checkpoint. It holds at most one signal.
func (s *Store) CheckpointDue() <-chan struct{} { return s.due }

// Backlog returns how many bytes of the journal no checkpoint covers yet, and how many make one due.
func (s *Store) Backlog() (waiting, due int64) { return s.journal.pending(), s.opts.MaxJournal / 2 }

// Head returns the newest durable point of the chain, for anchoring. It works after Close too. Whoever
// keeps it passes it to every later Open.
func (s *Store) Head() Head {
	p := s.durable.reached()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads.add(p)
	return Head{Generation: s.generation, Sequence: p.seq, Tag: p.tag}
}

// Close syncs, checkpoints, marks the store clean, gives back the room that it does not need while it is closed, and releases it. After a failure (kv.ErrFailed) it only
// releases and returns the failure. It waits for running calls.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return kv.ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	s.background.wg.Wait()
	var errs []error
	if !s.opts.ReadOnly {
		errs = append(errs, s.finish())
	}
	errs = append(errs, s.endDozing())
	s.export.close()
	s.base.discard()
	errs = append(errs, closeBadger(s.opts, s.db))
	s.restBallast()
	s.journal.close()
	s.ballast.close()
	for _, f := range s.opened {
		f.Close() // those that the journal had are closed already
	}
	s.wipe()
	return errors.Join(errs...)
}

// finish makes everything durable, first in the journal and then in Badger.
func (s *Store) finish() error {
	head, _ := s.journal.mark()
	if err := s.syncTo(context.Background(), head.seq); err != nil {
		return err
	}
	if err := s.checkpoint(context.Background(), !s.unswept.Load()); err != nil {
		return err
	}
	if err := s.restJournal(); err != nil {
		s.log.Warn("spare journal segments are left", "cause", err)
	}
	return nil
}

// Unswept says whether something is left to do that a crash has made due: as long as it is, closing does not make the store clean, so the next opening
// (Recovery.Clean) knows of it.
func (s *Store) Unswept(left bool) { s.unswept.Store(left) }
