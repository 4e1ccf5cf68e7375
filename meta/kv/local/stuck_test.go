package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

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
