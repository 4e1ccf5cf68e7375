package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Badger is tuned for a small daemon. The value log stays unused: every value is below the threshold, so
// its garbage collection and its own durability rules never matter.
const (
	smallMemTable  = 8 << 20
	largeMemTable  = 16 << 20
	smallJournal   = 64 << 20
	valueThreshold = 1 << 20
	valueLogSize   = 1 << 20
	baseTableSize  = 4 << 20
)

func badgerOptions(opts Options) badger.Options {
	memTable := int64(largeMemTable)
	if opts.MaxJournal <= smallJournal {
		memTable = smallMemTable
	}
	return badger.DefaultOptions(metaDir(opts)).
		WithMemTableSize(memTable).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithNumGoroutines(2).
		WithBaseTableSize(baseTableSize).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogSize).
		WithCompression(0). // rows are ciphertext
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumVersionsToKeep(1).
		WithDetectConflicts(false). // the overlay does that
		WithMetricsEnabled(false).
		WithSyncWrites(false).
		WithReadOnly(opts.ReadOnly).
		WithLogger(badgerLog{opts.Log})
}

func metaDir(opts Options) string    { return filepath.Join(opts.Dir, "meta") }
func journalDir(opts Options) string { return filepath.Join(opts.Dir, "journal") }

// openBadger opens the database. A read-only opening falls back to a writing one where the last process
// died, because Badger must then cut torn files.
func openBadger(opts Options) (*badger.DB, error) {
	if err := clearEmptyLogs(metaDir(opts), opts.ReadOnly); err != nil {
		return nil, fmt.Errorf("open %s: %w", metaDir(opts), err)
	}
	bo := badgerOptions(opts)
	db, err := badger.Open(bo)
	if err != nil && opts.ReadOnly && !errors.Is(err, unix.EWOULDBLOCK) {
		db, err = badger.Open(bo.WithReadOnly(false))
	}
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, fmt.Errorf("open %s: %w", metaDir(opts), kv.ErrLocked)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.EIO):
		return nil, fmt.Errorf("open %s: %w", metaDir(opts), err)
	}
	if err = noSpace(err); errors.Is(err, kv.ErrNoSpace) || isResource(err) {
		return nil, fmt.Errorf("open %s: %w", metaDir(opts), err)
	}
	return nil, fmt.Errorf("open %s: %w: %w", metaDir(opts), kv.ErrCorrupt, err) // checksums, formats, files that are not there
}

// isResource says whether the machine lacks something, so that trying again later may help.
func isResource(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// clearEmptyLogs removes logs of no length: Badger creates a log and then gives it its size, and refuses to
// open the directory for good if it was stopped in between. What was synced has a length.
func clearEmptyLogs(dir string, readOnly bool) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK) && readOnly:
		return nil // other readers may have it; Badger decides
	case errors.Is(err, unix.EWOULDBLOCK):
		return kv.ErrLocked
	case err != nil:
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
		if isLog(e.Name()) && info.Mode().IsRegular() && info.Size() == 0 {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
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

// base is a read transaction of Badger: the state of one checkpoint.
type base struct {
	txn  *badger.Txn
	refs int // guarded by Store.mu
}

func newBase(db *badger.DB) *base { return &base{txn: db.NewTransaction(false), refs: 1} }

func (b *base) discard() { b.txn.Discard() }

// get returns the value of key, nil if it is absent.
func (b *base) get(key []byte) ([]byte, error) {
	item, err := b.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a row: %w", err)
	}
	var v []byte
	err = item.Value(func(b []byte) error { v = b; return nil }) // the item's own copy
	if err != nil {
		return nil, fmt.Errorf("read a row: %w", err)
	}
	return v, nil
}

// baseSource is an iterator over Badger.
type baseSource struct {
	it *badger.Iterator
	hi []byte
}

// scan returns a source that stands at the first key of [lo, hi). The caller closes it.
func (b *base) scan(lo, hi []byte) *baseSource {
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = commonPrefix(lo, hi) // tables without it are left out
	it := b.txn.NewIterator(opt)
	it.Seek(lo)
	return &baseSource{it: it, hi: hi}
}

// commonPrefix returns what all keys of [lo, hi) begin with.
func commonPrefix(lo, hi []byte) []byte {
	n := 0
	for n < len(lo) && n < len(hi) && lo[n] == hi[n] {
		n++
	}
	return lo[:n]
}

func (b *baseSource) close() { b.it.Close() }

func (b *baseSource) key() []byte {
	if !b.it.Valid() {
		return nil
	}
	k := b.it.Item().Key()
	if b.hi != nil && bytes.Compare(k, b.hi) >= 0 {
		return nil
	}
	return k
}

func (b *baseSource) value() (v []byte, present bool, err error) {
	err = b.it.Item().Value(func(b []byte) error { v = b; return nil })
	if err != nil {
		return nil, false, fmt.Errorf("read a row: %w", err)
	}
	return v, true, nil
}

func (b *baseSource) next() { b.it.Next() }

// badgerLog passes Badger's warnings on.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) write(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Errorf and the others implement badger.Logger.
func (l badgerLog) Errorf(format string, args ...any)   { l.write(slog.LevelError, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.write(slog.LevelWarn, format, args) }
func (l badgerLog) Infof(string, ...any)                {}
func (l badgerLog) Debugf(string, ...any)               {}
