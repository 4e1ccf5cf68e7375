package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Badger is tuned for a small daemon. The value log stays unused: every value is below the threshold, so
// its garbage collection and its own durability rules never matter.
const (
	metaName       = "meta" // of its directory
	smallMemTable  = 8 << 20
	largeMemTable  = 16 << 20
	smallJournal   = 64 << 20
	valueThreshold = 1 << 20
	valueLogSize   = 1 << 20
	baseTableSize  = 4 << 20
)

// memTable returns the size of Badger's table in memory, in bytes.
func memTable(opts Options) int64 {
	if opts.MaxJournal <= smallJournal {
		return smallMemTable
	}
	return largeMemTable
}

// badgerOptions returns how Badger is opened. It compares no checksums once it is open: a block that is wrong would be left out without a
// word, and when tables are merged, all that follows it in its table, for good. As it is, a damaged value is returned and kept, and does
// not open for whoever sealed it; a damaged key is missed by the freshness table.
func badgerOptions(opts Options) badger.Options {
	return badger.DefaultOptions(metaDir(opts)).
		WithMemTableSize(memTable(opts)).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithNumGoroutines(2).
		WithBaseTableSize(baseTableSize).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogSize).
		WithCompression(options.None). // rows are ciphertext
		WithChecksumVerificationMode(options.NoVerification).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumVersionsToKeep(1).
		WithDetectConflicts(false). // the overlay does that
		WithMetricsEnabled(false).
		WithSyncWrites(false).
		WithReadOnly(opts.ReadOnly).
		WithLogger(newBadgerLog(metaDir(opts), opts.Log, opts.trouble))
}

func metaDir(opts Options) string {
	if opts.meta != "" {
		return filepath.Join(opts.Dir, opts.meta)
	}
	return filepath.Join(opts.Dir, metaName)
}

func journalDir(opts Options) string { return filepath.Join(opts.Dir, "journal") }

// openBadger opens the database. A read-only opening falls back to a writing one where the last process
// died, because Badger must then cut torn files.
func openBadger(opts Options) (*badger.DB, error) {
	dir := metaDir(opts)
	if err := checkPlain(dir); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := cutLogs(dir, opts.ReadOnly); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	bo := badgerOptions(opts)
	if err := verifyBadger(bo); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	open := func(bo badger.Options) (*badger.DB, error) {
		return bound(opts.trouble, func() (*badger.DB, error) { return openManaged(bo) })
	}
	db, err := open(bo)
	if errors.Is(err, errStuck) {
		return nil, fmt.Errorf("open %s: %w", dir, explained(dir, err))
	}
	if err != nil && opts.ReadOnly && lock(dir, unix.LOCK_SH) == nil {
		db, err = open(bo.WithReadOnly(false))
	}
	if err == nil {
		return db, nil
	}
	return nil, fmt.Errorf("open %s: %w: %w", dir, diagnose(dir, opts.ReadOnly), err)
}

// openManaged opens the database. What a damaged file makes it panic with is an error.
func openManaged(bo badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("panic: %v: %w", p, kv.ErrCorrupt)
		}
	}()
	return badger.OpenManaged(bo)
}

// lock tries Badger's lock on its directory, of the kind LOCK_EX or LOCK_SH, and gives it back.
// Error: kv.ErrLocked.
func lock(dir string, kind int) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = unix.Flock(int(d.Fd()), kind|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return kv.ErrLocked
	}
	return os.NewSyscallError("flock", err)
}

// diagnose finds out why Badger did not open: its errors are text. What the system refuses it refuses here
// as well; what is left are checksums, formats, and files that are not there.
func diagnose(dir string, readOnly bool) error {
	kind, flags := unix.LOCK_EX, os.O_RDWR
	if readOnly {
		kind, flags = unix.LOCK_SH, os.O_RDONLY
	}
	if err := lock(dir, kind); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), flags|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return noSpace(err)
		}
		f.Close()
	}
	if !readOnly {
		if err := tryWrite(dir); err != nil {
			return noSpace(err)
		}
	}
	return kv.ErrCorrupt
}

// tryWrite writes a file, syncs it, and removes it.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, datasync(int(f.Fd())), f.Close(), os.Remove(f.Name()))
}

// cutLogs removes logs of no length: Badger creates a log and then gives it its size, and refuses to
// open the directory for good if it was stopped in between. What was synced has a length. Others are cut
// where Badger must not read on.
func cutLogs(dir string, readOnly bool) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK && readOnly {
		return lock(dir, unix.LOCK_SH) // other readers may have it
	}
	if err == unix.EWOULDBLOCK {
		return kv.ErrLocked
	}
	if err != nil {
		return os.NewSyscallError("flock", err)
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if isLog(e.Name()) && info.Mode().IsRegular() {
			if err := cutLog(filepath.Join(dir, e.Name()), info.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// isLog reports whether a file of Badger's is one that it writes to without syncing.
func isLog(name string) bool {
	return strings.HasSuffix(name, ".mem") || strings.HasSuffix(name, ".vlog")
}

// syncBadger makes everything written to Badger durable. Badger's own Sync leaves out the log of a memory
// table that was just replaced, so every log is synced here, and then the directory. A log that is gone
// was flushed into a table, which Badger syncs.
func syncBadger(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isLog(e.Name()) {
			continue
		}
		if err := syncFile(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(dir)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return datasync(int(f.Fd()))
}

// base is a read transaction of Badger: the state of one checkpoint, and the table that its rows are held to.
type base struct {
	txn   *badger.Txn
	stamp uint64      // Badger's timestamp of the checkpoint
	table *freshTable // nil: rows are not verified (driver rows are never)
	refs  int         // guarded by Store.mu
}

// latest is the timestamp that sees everything, also what a checkpoint cut short has left.
const latest = math.MaxUint64

func newBase(db *badger.DB, stamp uint64, t *freshTable) *base {
	return &base{txn: db.NewTransactionAt(stamp, false), stamp: stamp, table: t, refs: 1}
}

func (b *base) discard() { b.txn.Discard() }

// get returns the value of key, nil if it is absent. Errors: kv.ErrTampered.
func (b *base) get(key []byte) ([]byte, error) {
	if b.table == nil {
		return b.raw(key)
	}
	if b.table.beyond(b, key) {
		return nil, nil
	}
	if err := b.table.verifyKey(b, key, anyAge); err != nil {
		return nil, err
	}
	v, err := b.raw(key)
	if v == nil && err == nil {
		err = b.table.verifyKey(b, key, b.table.keys.good)
	}
	return v, err
}

// raw is get without verification.
func (b *base) raw(key []byte) (v []byte, err error) {
	err = shield(func() error {
		item, err := b.txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error { v = b; return nil }) // the item's own copy
	})
	return v, err
}

// shield calls read, which reads from Badger's mapped files. What damage makes it panic with, and faults where the disk fails below a
// mapping, or a file was made shorter, are kv.ErrCorrupt: they concern a few rows, not the process.
func shield(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read a row: %v: %w", p, kv.ErrCorrupt)
		}
	}()
	if err := read(); err != nil {
		return fmt.Errorf("read a row: %w", err)
	}
	return nil
}

// scan returns a source that stands at the first key of [lo, hi), and verifies what it passes. The caller closes it.
func (b *base) scan(lo, hi []byte) *verifiedSource {
	if len(lo) > 0 && len(hi) > 0 && lo[0] == hi[0] && b.table != nil && b.table.beyond(b, lo) {
		return &verifiedSource{baseSource: &baseSource{}, b: b, all: true}
	}
	return &verifiedSource{baseSource: b.iterate(lo, hi), b: b, to: lo}
}

// verifiedSource is an iterator over Badger that verifies each range before it gives out the first row behind the range's start, and
// at its end the ranges up to hi, in which rows may be missing.
type verifiedSource struct {
	*baseSource
	b   *base
	to  []byte // ranges are verified up to here
	all bool   // and none is left
	err error
}

func (s *verifiedSource) key() []byte {
	k := s.baseSource.key()
	if s.b.table == nil || s.all || s.err != nil || k != nil && bytes.Compare(k, s.to) < 0 {
		return k
	}
	s.to, s.err = s.b.table.verifyThrough(s.b, s.to, k, s.hi)
	s.all = k == nil || s.to == nil
	return k
}

func (s *verifiedSource) failed() error {
	if s.err != nil {
		return s.err
	}
	return s.baseSource.failed()
}

// baseSource is an iterator over Badger.
type baseSource struct {
	it  *badger.Iterator
	hi  []byte
	err error // it has no more keys because of that
}

// iterate returns a source that stands at the first key of [lo, hi). The caller closes it.
func (b *base) iterate(lo, hi []byte) *baseSource {
	if len(lo) == 0 {
		lo = firstKey
	}
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = commonPrefix(lo, hi) // tables without it are left out
	s := &baseSource{hi: hi}
	s.err = shield(func() error {
		s.it = b.txn.NewIterator(opt)
		s.it.Seek(lo)
		return nil
	})
	return s
}

// commonPrefix returns what all keys of [lo, hi) begin with.
func commonPrefix(lo, hi []byte) []byte {
	n := 0
	for n < len(lo) && n < len(hi) && lo[n] == hi[n] {
		n++
	}
	return lo[:n]
}

func (b *baseSource) close() {
	if b.it != nil {
		_ = shield(func() error { b.it.Close(); return nil }) // after a fault it may not find its way out
	}
}

func (b *baseSource) key() []byte {
	if b.it == nil || b.err != nil || !b.it.Valid() {
		return nil
	}
	k := b.it.Item().Key()
	if b.hi != nil && bytes.Compare(k, b.hi) >= 0 {
		return nil
	}
	return k
}

func (b *baseSource) value() (v []byte, present bool, err error) {
	err = shield(func() error {
		return b.it.Item().Value(func(b []byte) error { v = b; return nil })
	})
	return v, err == nil, err
}

func (b *baseSource) next() { b.err = shield(func() error { b.it.Next(); return nil }) }

func (b *baseSource) failed() error { return b.err }

// isResource reports whether the machine lacks something, so that trying again later may help.
func isResource(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}
