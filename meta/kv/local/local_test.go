package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/kvtest"
)

var ctx = context.Background()

type ctxType = context.Context

// testOptions returns options for a store in dir with a small journal.
func testOptions(dir string) Options {
	key := blockcrypt.Key{1, 2, 3}
	return Options{
		Dir:         dir,
		Volume:      blockcrypt.VolumeID{9, 9},
		Key:         &key,
		SegmentSize: 64 << 10,
		MaxJournal:  16 * 64 << 10,
		MinFree:     -1,
	}
}

// create makes a store in a new directory and returns its options.
func create(t testing.TB) Options {
	t.Helper()
	opts := testOptions(filepath.Join(t.TempDir(), "vol"))
	if err := Create(ctx, opts); err != nil {
		t.Fatalf("create: %v", err)
	}
	return opts
}

// open opens a store and closes it when the test ends, if it is still open.
func open(t testing.TB, opts Options) *Store {
	t.Helper()
	s, err := Open(ctx, opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, kv.ErrClosed) && !errors.Is(err, kv.ErrFailed) {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// copyStore copies the directory of a store in use, as the death of its process would leave it, and
// returns options for the copy. Holes stay holes.
func copyStore(t testing.TB, opts Options) Options {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	copyStable(t, opts.Dir, to)
	opts.Dir, opts.Files = to, nil
	return opts
}

// copyStable copies a directory until Badger has not begun or ended a file meanwhile: a copy is no moment
// in time, and one that mixes two lists of files is a state that no crash leaves.
func copyStable(t testing.TB, from, to string) {
	t.Helper()
	for range 1000 {
		before := listing(t, from)
		copyTree(t, from, to)
		if before == listing(t, from) {
			return
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s does not come to rest", from)
}

func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil {
			fmt.Fprintln(&b, path, info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Badger has just removed it
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatalf("copy the store: %v", err)
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	const page = 4096
	zero := make([]byte, page)
	for off := 0; off < len(b); off += page {
		piece := b[off:min(off+page, len(b))]
		if bytes.Equal(piece, zero[:len(piece)]) {
			continue
		}
		if _, err := f.WriteAt(piece, int64(off)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Truncate(int64(len(b))), f.Close())
}

// put commits one row.
func put(t testing.TB, s *Store, k, v string) kv.Rev {
	t.Helper()
	rev, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
		x.Put([]byte(k), []byte(v))
		return nil
	})
	if err != nil {
		t.Fatalf("put %q: %v", k, err)
	}
	return rev
}

// dump returns all rows.
func dump(t testing.TB, s *Store) map[string]string {
	t.Helper()
	rows := map[string]string{}
	err := s.View(ctx, func(r kv.Reader) error {
		return r.Scan(ctx, nil, nil, 0, func(k, v []byte) bool {
			rows[string(k)] = string(v)
			return true
		})
	})
	if err != nil {
		t.Fatalf("dump: %v", err)
	}
	return rows
}

func checkpointNow(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
}

func syncNow(t testing.TB, s *Store, rev kv.Rev) {
	t.Helper()
	if err := s.Sync(ctx, rev); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, func(t *testing.T) kv.Store { return open(t, create(t)) })
}

// checkpointing is a store that makes a checkpoint after every few updates, in the background.
type checkpointing struct{ *Store }

func (c checkpointing) Update(ctx context.Context, id kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	rev, err := c.Store.Update(ctx, id, fn)
	if rev%7 == 0 {
		c.background.start()
	}
	return rev, err
}

func TestSuiteWithCheckpoints(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, func(t *testing.T) kv.Store { return checkpointing{open(t, create(t))} })
}

// settled is a store whose rows are brought to Badger before every few Views.
type settled struct {
	*Store
	views *atomic.Int64
}

func (c settled) View(ctx context.Context, fn func(kv.Reader) error) error {
	if c.views.Add(1)%3 == 1 {
		if err := c.Store.Checkpoint(ctx); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return c.Store.View(ctx, fn)
}

func TestSuiteFromBadger(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, func(t *testing.T) kv.Store { return settled{open(t, create(t)), new(atomic.Int64)} })
}
