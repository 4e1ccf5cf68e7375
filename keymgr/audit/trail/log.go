package trail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// Options say what stream to write, and how. Zero values mean the defaults below.
type Options struct {
	Dir      string // of the log; made with mode 0700
	KeyStore string // id, 32 hex digits
	Stream   string

	Limit           time.Duration // of one Record
	AccessContinues bool          // successful file access goes on without its record; the log says how often
	Flushed         bool          // nearly all records are to be durable: whoever writes them flushes them, too, so that no other goroutine has to be woken in between, into blocks that are there already
	SegmentSize     int64         // bytes before compression
	SegmentAge      time.Duration
	SealEvery       time.Duration
	Reserve         int64 // bytes
	Sinks           []Sink
	Auditor         *auditor.Sealer // seals events to an auditor, but for the log's own; nil: they stand in clear
	Spools          []string        // directories for the spool, the first on tmpfs counts; none: every event waits for the writer
	Now             func() time.Time
	Log             *slog.Logger

	disk disk // tests; nil: the directory's
}

// Defaults of Options.
const (
	DefaultLimit       = 2 * time.Second
	DefaultSegmentSize = 64 << 20
	DefaultSegmentAge  = 24 * time.Hour
	DefaultSealEvery   = 2 * time.Second
	DefaultReserve     = spoolSize + 1<<20 // what was acknowledged before the disk was found full goes there, too
)

const (
	flushEvery = 50 * time.Millisecond // a quarter of audit.FlushWithin: a write waits for so long, then for a flush, and what comes meanwhile waits for the next one
	maxBacklog = 4 << 20               // bytes that wait for a slow disk
	writeAhead = 512 << 10             // bytes behind the end of a segment of which each record is flushed: some 400 records
)

func (o *Options) setDefaults() {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set((*int64)(&o.Limit), int64(DefaultLimit))
	set(&o.SegmentSize, DefaultSegmentSize)
	set((*int64)(&o.SegmentAge), int64(DefaultSegmentAge))
	set((*int64)(&o.SealEvery), int64(DefaultSealEvery))
	set(&o.Reserve, DefaultReserve)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Log is the writer of one stream. It implements audit.Recorder.
type Log struct {
	opts Options
	dir  string // of the stream
	disk disk
	lock *os.File

	wake    chan struct{}  // holds one token if somebody waits for something to be written
	later   chan struct{}  // holds one token if there is something to write for which nobody waits
	asked   chan func()    // what the writer does between two batches
	flushes chan struct{}  // holds one token if there is something to flush now
	dirty   chan struct{}  // holds one token if there is something to flush within flushEvery
	news    chan struct{}  // holds one token if there is something to seal
	packs   chan struct{}  // holds one token if there is a segment to compress
	ends    chan struct{}  // closed by Close
	workers sync.WaitGroup // flusher, sealer, packer
	written chan struct{}  // closed when the writer is gone
	turn    chan struct{}  // holds one token: whoever seals has taken it
	syncing chan struct{}  // holds one token: whoever flushes, or exchanges the file, has taken it
	sinks   []*sinkQueue

	demanding bool // a sink is required: events wait for it
	forms     audit.Forms
	scratch   sync.Pool // of *[]byte, for events on their way to the spool

	mu struct {
		sync.Mutex
		queue   []*entry
		queued  int    // bytes
		spool   *spool // nil: there is none
		closed  bool
		err     error // why the last batch could not be written or flushed; nil if it could
		sealer  Sealer
		current int64 // first record of the segment that is written
		sealed  int64 // size of the newest head that is sealed and anchored
		status  Status
		missing gap
	}
	flush   flushState
	packOne sync.Mutex // held by who compresses
	w       writerState
	pinned  *seal.Claim // whoever has turn: a head that was offered and may be anchored
}

var _ audit.Recorder = (*Log)(nil)

// entry is an event on its way, or a run of such as are in the spool.
type entry struct {
	line    []byte // without sequence number and end; nil: those from first to spooled in the spool
	class   audit.Class
	durable bool // it is done when it is on disk, not as soon as it is in the file
	seal    bool
	at      int64         // its sequence number, once written
	gap     *gap          // what it stands for, if it is the record of missing events
	err     error         // why it is not in the log; set before done is closed
	done    chan struct{} // closed when it is in the log, or will not be; nil if nobody waits
	acked   time.Time     // when it, or the first of them, was acknowledged by the spool: nobody waits for it, and it must not be lost; zero: it was not
	first   uint64        // logical begin of a run in the spool
	spooled uint64        // logical end in the spool
	length  int           // of the lines of a run
	records int           // of a run
}

// size is how many bytes an entry's lines have.
func (n *entry) size() int { return len(n.line) + n.length }

// end answers who waits for the entry.
func (n *entry) end(err error) {
	if n.err = err; n.done != nil {
		close(n.done)
	}
}

// Open opens a stream for writing, or makes it, and takes it for this process. What a crash left half-written is cut off and kept beside the log. It is not checked against
// the anchored head before Attach. Errors: ErrInUse, ErrUnsafe, ErrDamaged, the system's.
func Open(opts Options) (*Log, error) {
	opts.setDefaults()
	if !seal.ValidStream(opts.Stream) {
		return nil, fmt.Errorf("open audit stream %.40q: %w", opts.Stream, ErrNoLog)
	}
	l := &Log{opts: opts, dir: filepath.Join(opts.Dir, opts.Stream), wake: make(chan struct{}, 1), later: make(chan struct{}, 1), asked: make(chan func()),
		flushes: make(chan struct{}, 1), dirty: make(chan struct{}, 1), news: make(chan struct{}, 1), packs: make(chan struct{}, 1), ends: make(chan struct{}), written: make(chan struct{}), turn: make(chan struct{}, 1), syncing: make(chan struct{}, 1)}
	l.w.patience = gatherTime
	if l.disk = opts.disk; l.disk == nil {
		d := osDisk{dir: l.dir}
		if opts.Flushed {
			d.ahead = writeAhead
		}
		l.disk = d
	}
	if err := l.open(); err != nil {
		if l.lock != nil {
			l.lock.Close()
		}
		if l.mu.spool != nil {
			l.mu.spool.close(false)
		}
		return nil, fmt.Errorf("open audit stream %s: %w", l.dir, err)
	}
	for _, s := range opts.Sinks {
		l.sinks = append(l.sinks, newSinkQueue(s, opts.Log))
		l.demanding = l.demanding || s.Required
	}
	go l.write()
	for _, fn := range []func(){l.flusher, l.sealing, l.packing} {
		l.workers.Go(fn)
	}
	l.nudge(l.packs)
	return l, nil
}

func (l *Log) open() error {
	for _, dir := range []string{l.opts.Dir, l.dir} {
		if err := prepareDir(dir); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(l.dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	l.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	} else if err != nil {
		return err
	}
	if err := l.recover(); err != nil {
		return err
	}
	if err := l.disk.SetReserve(l.opts.Reserve); err != nil {
		l.opts.Log.Warn("no space for the audit log's reserve", "dir", l.dir, "error", err)
		l.w.full = true
	}
	return l.openSpool()
}

// Record implements audit.Recorder.
func (l *Log) Record(ctx context.Context, e *audit.Event) error {
	err := l.record(ctx, e)
	if err != nil && e.Class == audit.Access && l.opts.AccessContinues && !errors.Is(err, audit.ErrEvent) {
		l.miss(e.Time, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Name, err)
	}
	return nil
}

func (l *Log) record(ctx context.Context, e *audit.Event) error {
	l.stamp(e)
	if e.Class == audit.Access && !e.Durable && l.acknowledge(e) {
		return nil
	}
	n, err := l.entry(e)
	if err != nil {
		return err
	}
	return l.submit(ctx, n, l.opts.Limit)
}

// stamp gives an event its time and id.
func (l *Log) stamp(e *audit.Event) {
	if e.Time.IsZero() {
		e.Time = l.opts.Now()
	}
	if e.ID == "" {
		e.ID = audit.NewID()
	}
}

// submit hands an entry over and waits for what it asks for.
func (l *Log) submit(ctx context.Context, n *entry, atMost time.Duration) error {
	if err := l.enqueue(n); err != nil {
		return err
	}
	limited, cancel := awake.WithTimeout(ctx, atMost)
	defer cancel()
	if err := await(ctx, limited, n.done); err != nil {
		return err
	}
	if n.err != nil {
		return n.err
	}
	if n.class == audit.Repair { // the log's own affairs do not stop with a sink
		return nil
	}
	for _, s := range l.sinks {
		if err := s.await(ctx, limited, n.at); err != nil {
			return err
		}
	}
	return nil
}

// entry encodes an event.
func (l *Log) entry(e *audit.Event) (*entry, error) {
	l.stamp(e)
	line, err := l.encode(make([]byte, 0, 2048), e)
	if err != nil {
		return nil, err
	}
	return &entry{line: line, class: e.Class, durable: e.Durable || e.Class != audit.Access}, nil
}

func (l *Log) enqueue(n *entry) error {
	n.done = make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return audit.ErrClosed
	}
	if l.mu.queued+len(n.line) > maxBacklog {
		return fmt.Errorf("%w: %d bytes wait", audit.ErrBlocked, l.mu.queued)
	}
	l.mu.queue = append(l.mu.queue, n)
	l.mu.queued += len(n.line)
	l.nudge(l.wake)
	return nil
}

// nudge puts a token into a channel that holds one.
func (l *Log) nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Dir is the stream's directory, in the log's under the stream's name.
func (l *Log) Dir() string { return l.dir }

// Status is the state of a stream.
type Status struct {
	Size     int64  // records
	Sealed   int64  // of them, sealed and anchored
	Unsealed int64  // found when it was opened: records that a crash left without a seal
	Full     bool   // only administrative and repair events are taken
	Missing  uint64 // events of access that went on without a record, not yet recorded as missing

	Queued    int           // records that are not in the file yet
	Unflushed time.Duration // for how long the oldest record in the file has not been on disk; 0: all are
}

// Status describes the log.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.status
	s.Sealed, s.Missing = l.mu.sealed, l.mu.missing.count
	for _, n := range l.mu.queue {
		s.Queued += max(n.records, 1)
	}
	l.flush.mu.Lock()
	defer l.flush.mu.Unlock()
	if len(l.flush.bytes) > 0 {
		s.Unflushed = time.Since(l.flush.since)
	}
	return s
}

// Err is why the last batch could not be written or flushed, nil if it could.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

func (l *Log) setErr(err error) {
	l.mu.Lock()
	l.mu.err = err
	l.mu.Unlock()
}

// closeLimit bounds how long Close waits for disk, sealer and sinks.
const closeLimit = 10 * time.Second

// Close records the end of the stream, seals and anchors it, and gives it up. Later Records fail. It ends within 10 s even if the disk hangs. An error means that the stream
// did not end cleanly; nothing else is lost.
func (l *Log) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	l.mu.Lock()
	shut := l.mu.closed
	l.mu.Unlock()
	if shut {
		return nil
	}
	err := l.endStream(ctx)
	l.mu.Lock()
	l.mu.closed = true
	l.mu.Unlock()
	close(l.ends)
	gone := make(chan struct{})
	go func() {
		l.workers.Wait()
		<-l.written
		close(gone)
	}()
	select {
	case <-gone:
		err = errors.Join(err, l.w.file.Close(), l.closeSpool(), l.lock.Close())
	case <-ctx.Done():
		err = errors.Join(err, audit.ErrBlocked)
	}
	for _, s := range l.sinks {
		err = errors.Join(err, s.close(ctx))
	}
	if err != nil {
		return fmt.Errorf("close audit stream %s: %w", l.dir, err)
	}
	return nil
}
