package local

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// blockTables makes Badger fail to write any table: what is to be its name is taken.
func blockTables(t *testing.T, dir string) {
	t.Helper()
	for i := range 2000 {
		err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("%06d.sst", i)), 0o700)
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
}

// within fails the test if do takes longer than a busy machine may need to notice that Badger is stuck.
func within(t *testing.T, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

// TestStuckClose: Close ends when Badger cannot write what it wants to write once more. Nothing is lost.
func TestStuckClose(t *testing.T) {
	t.Parallel()
	opts := createToAbandon(t)
	opts.Settler = newSettler()
	s, err := Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	h := newHistory()
	r := rand.New(rand.NewPCG(21, 1))
	for range 50 {
		if err := h.commit(s, r); err != nil {
			t.Fatal(err)
		}
	}
	blockTables(t, metaDir(opts))
	if err := within(t, "close", s.Close); !errors.Is(err, errStuck) {
		t.Errorf("close: %v", err)
	}
	again := copyStore(t, opts)
	removeDirs(t, metaDir(again))
	h.check(t, open(t, again), opts.Settler.(*fakeSettler), h.last())
}

// TestStuckCheckpoint: a checkpoint ends when Badger takes no more rows, and the store fails.
func TestStuckCheckpoint(t *testing.T) {
	t.Parallel()
	opts := createToAbandon(t)
	opts.SegmentSize, opts.MaxJournal = 4<<20, 16<<20
	s, err := Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	blockTables(t, metaDir(opts))
	var failed error
	for i := 0; failed == nil && i < 100; i++ {
		for j := range 20 {
			_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
				x.Put(fmt.Append(nil, "k", i, "-", j), make([]byte, 100<<10))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		failed = within(t, "checkpoint", func() error { return s.Checkpoint(ctx) })
	}
	if !errors.Is(failed, kv.ErrFailed) || !errors.Is(failed, errStuck) {
		t.Errorf("checkpoint: %v", failed)
	}
	if s.Stats().Failed == nil {
		t.Error("the store has not failed")
	}
	if err := within(t, "close", s.Close); !errors.Is(err, kv.ErrFailed) {
		t.Errorf("close: %v", err)
	}
}

// TestStuckOpen: opening ends when Badger has tables of its log to write, has no room for them among those that are not merged yet, and cannot merge
// them. It must not go on with a merge whose table it cannot write: it would lose it and delete what it was made of.
func TestStuckOpen(t *testing.T) {
	t.Parallel()
	opts, err := createToAbandon(t).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := fillLevel0(t, opts)
	log := newBadgerLog(metaDir(opts), opts.Log, opts.trouble)
	log.probe = func() error { return unix.EIO }
	err = within(t, "open", func() error {
		_, err := bound(opts.trouble, func() (*badger.DB, error) { return openManaged(badgerOptions(opts).WithLogger(log)) })
		return err
	})
	if !errors.Is(err, errStuck) || !errors.Is(err, unix.EIO) {
		t.Errorf("open: %v", err)
	}
	again := copyStore(t, opts)
	db, err := openManaged(badgerOptions(again))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := newBase(db, latest, nil)
	defer b.discard()
	for key, value := range want {
		if got, err := b.raw([]byte(key)); err != nil || string(got) != value {
			t.Errorf("row %s: %q, %v, want %q", key, got, err, value)
		}
	}
}

// TestStuckMerging: what waits for merges ends when they fail again and again; a few that fail are no reason.
func TestStuckMerging(t *testing.T) {
	t.Parallel()
	trouble := new(trouble)
	log := newBadgerLog(t.TempDir(), slog.New(slog.NewTextHandler(t.Output(), nil)), trouble)
	for range 1000 {
		log.Warningf("before the call")
	}
	value, err := bound(trouble, func() (int, error) {
		log.Warningf("While running doCompact: %v", unix.EIO)
		time.Sleep(3 * stuckLook)
		return 1, nil
	})
	if value != 1 || err != nil {
		t.Errorf("a call that ends: %d, %v", value, err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	err = within(t, "merging", func() error {
		_, err := bound(trouble, func() (int, error) {
			defer close(ended)
			for {
				select {
				case <-stop:
					return 0, nil
				case <-time.After(time.Millisecond):
					log.Warningf("While running doCompact: %v", unix.EIO)
				}
			}
		})
		return err
	})
	close(stop)
	<-ended // it writes to the test's output
	if !errors.Is(err, errStuck) {
		t.Errorf("merging: %v", err)
	}
}

// fillLevel0 makes Badger hold as many tables that are not merged as it ever has, and logs of more tables than it has room for on their way.
// It returns what is in the tables.
func fillLevel0(t *testing.T, opts Options) map[string]string {
	t.Helper()
	rows := map[string]string{}
	bo := badgerOptions(opts).WithNumCompactors(0)
	stall := bo.NumLevelZeroTablesStall
	bo = bo.WithNumLevelZeroTablesStall(1000)
	var log []byte
	for i := range stall {
		db, err := badger.OpenManaged(bo)
		if err != nil {
			t.Fatal(err)
		}
		batch := db.NewWriteBatchAt(uint64(100 + i))
		key, value := fmt.Sprint("k", i), fmt.Sprint("v", i)
		rows[key] = value
		if err := errors.Join(batch.Set([]byte(key), []byte(value)), batch.Flush()); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(metaDir(opts), "*.mem"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs: %v, %v", logs, err)
		}
		if log, err = os.ReadFile(logs[0]); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range bo.NumMemtables + 2 { // one at work, others in the queue, and one for which Open waits
		if err := os.WriteFile(filepath.Join(metaDir(opts), fmt.Sprintf("%05d.mem", 90000+i)), log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// removeDirs takes away what blockTables made.
func removeDirs(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// createToAbandon is create in a directory whose removal may take more than one try: a Badger that is stuck goes on making files.
func createToAbandon(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "kmsfs-stuck-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 1000 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
		}
		t.Error(err)
	})
	opts := testOptions(filepath.Join(dir, "vol"))
	if err := Create(ctx, opts); err != nil {
		t.Fatalf("create: %v", err)
	}
	return opts
}
