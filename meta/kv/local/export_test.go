package local

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// exporting makes a store with an export, small segments and no ballast.
func exporting(t testing.TB) Options {
	opts := create(t)
	opts.Export = true
	return opts
}

// churn commits n random transactions and keeps model in step; checkpoints come now and then.
func churn(t *testing.T, s *Store, r *rand.Rand, model map[string]string, n int) {
	t.Helper()
	for range n {
		_, err := s.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
			for range 1 + r.IntN(6) {
				k := fmt.Sprintf("key %04d", r.IntN(600))
				if r.IntN(4) == 0 {
					tx.Delete([]byte(k))
					delete(model, k)
					continue
				}
				v := strings.Repeat(fmt.Sprint(r.Uint32(), " "), 1+r.IntN(30))
				tx.Put([]byte(k), []byte(v))
				model[k] = v
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(12) == 0 {
			checkpointNow(t, s)
		}
	}
}

// rebuilt rebuilds a closed store and returns what is in it then.
func rebuilt(t *testing.T, opts Options) (map[string]string, RebuildReport) {
	t.Helper()
	rep, err := Rebuild(ctx, opts, RebuildOptions{})
	if err != nil {
		t.Fatalf("rebuild: %v", err)
	}
	s := open(t, opts)
	defer s.Close()
	for _, fault := range verifyAll(t, s) {
		t.Errorf("after the rebuild: %v", fault)
	}
	return dump(t, s), rep
}

func sameRows(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
}

// TestRebuild loses Badger after random work, both of a store that was closed and of one whose process died, and rebuilds it again and again.
func TestRebuild(t *testing.T) {
	opts := exporting(t)
	r := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	for round := range 8 {
		s := open(t, opts)
		churn(t, s, r, model, 150)
		if st := s.Stats(); st.ExportBehind != nil || st.ExportFiles == 0 {
			t.Fatalf("round %d: export %+v", round, st)
		}
		died := copyStore(t, opts)
		died.Head = s.Head()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]Options{"closed": opts, "died": died} {
			if err := os.RemoveAll(metaDir(o)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(ctx, o); err == nil {
				t.Fatalf("round %d, %s: opens without its rows", round, name)
			}
			got, _ := rebuilt(t, o)
			sameRows(t, got, model)
		}
	}
}

// TestExportMerges checks that the number of files and their bytes stay within bounds, and that merging loses nothing.
func TestExportMerges(t *testing.T) {
	opts := exporting(t)
	s := open(t, opts)
	r := rand.New(rand.NewPCG(3, 4))
	model := map[string]string{}
	most := 0
	for range 120 {
		churn(t, s, r, model, 3)
		checkpointNow(t, s)
		s.export.wg.Wait()
		most = max(most, s.Stats().ExportFiles)
	}
	if most > 2*exportRun {
		t.Errorf("%d files", most)
	}
	if err := s.VerifyExport(ctx); err != nil {
		t.Error(err)
	}
	var rows int64
	for k, v := range model {
		rows += int64(len(k) + len(v))
	}
	if size := s.Stats().ExportBytes; size > 6*rows {
		t.Errorf("export of %d bytes for %d bytes of rows", size, rows)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	if _, err := Rows(ctx, opts.Dir, opts.Key, opts.Volume, func(k, v []byte) error { found[string(k)] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	sameRows(t, found, model)
	if left, err := filepath.Glob(filepath.Join(exportDir(opts), "*")); err != nil || len(left) > 2*exportRun {
		t.Errorf("%d files left in the directory, %v", len(left), err)
	}
}

// TestRebuildRefuses: what does not lead to the state that is known from outside is refused, and nothing is changed.
func TestRebuildRefuses(t *testing.T) {
	opts := exporting(t)
	r := rand.New(rand.NewPCG(5, 6))
	model := map[string]string{}
	s := open(t, opts)
	churn(t, s, r, model, 100)
	checkpointNow(t, s)
	early, earlyHead := copyStore(t, opts), s.Head()
	then := maps.Clone(model)
	churn(t, s, r, model, 300)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	head := s.Head()
	head.Closed = true

	t.Run("older volume", func(t *testing.T) {
		o := early
		o.Head = head
		if _, err := Rebuild(ctx, o, RebuildOptions{}); !errors.Is(err, kv.ErrRollback) {
			t.Fatalf("rebuild of an older state: %v", err)
		}
		rep, err := Rebuild(ctx, o, RebuildOptions{AcceptLoss: true})
		if err != nil || !errors.Is(rep.Lost, kv.ErrRollback) {
			t.Fatalf("accepted: %+v, %v", rep, err)
		}
		if _, err := Open(ctx, o); !errors.Is(err, kv.ErrRollback) {
			t.Fatalf("opening it is refused still: %v", err)
		}
		o.Head = Head{}
		s := open(t, o)
		sameRows(t, dump(t, s), then)
	})
	t.Run("older export", func(t *testing.T) {
		o := copyStore(t, opts)
		if err := os.RemoveAll(exportDir(o)); err != nil {
			t.Fatal(err)
		}
		copyTree(t, exportDir(early), exportDir(o))
		before := dumpTree(t, o.Dir)
		if _, err := Rebuild(ctx, o, RebuildOptions{}); !errors.Is(err, kv.ErrCorrupt) {
			t.Fatalf("rebuild from an older export: %v", err)
		}
		if !maps.Equal(before, dumpTree(t, o.Dir)) {
			t.Error("a refused rebuild has changed something")
		}
		s := open(t, o) // notices that the export is another, and writes it anew
		checkpointNow(t, s)
		if err := s.VerifyExport(ctx); err != nil {
			t.Errorf("after a checkpoint: %v", err)
		}
		sameRows(t, dump(t, s), model)
	})
	t.Run("nothing left", func(t *testing.T) {
		o := copyStore(t, opts)
		if err := errors.Join(os.RemoveAll(exportDir(o)), os.RemoveAll(metaDir(o))); err != nil {
			t.Fatal(err)
		}
		if _, err := Rebuild(ctx, o, RebuildOptions{AcceptLoss: true}); !errors.Is(err, kv.ErrCorrupt) || !strings.Contains(err.Error(), "backup") {
			t.Fatalf("rebuild from nothing: %v", err)
		}
	})
	t.Run("journal gone, closed", func(t *testing.T) {
		o := copyStore(t, opts)
		o.Head = head
		if err := errors.Join(os.RemoveAll(journalDir(o)), os.RemoveAll(metaDir(o))); err != nil {
			t.Fatal(err)
		}
		rows, rep := rebuilt(t, o)
		if rep.Lost != nil {
			t.Errorf("lost: %v", rep.Lost)
		}
		sameRows(t, rows, model)
	})
	t.Run("open", func(t *testing.T) {
		o := early
		o.Head = earlyHead
		o.Dir = filepath.Join(t.TempDir(), "busy")
		copyTree(t, early.Dir, o.Dir)
		o.Head = Head{}
		s := open(t, o)
		defer s.Close()
		if _, err := Rebuild(ctx, o, RebuildOptions{}); !errors.Is(err, kv.ErrLocked) {
			t.Fatalf("rebuild of an open store: %v", err)
		}
	})
}

// dumpTree returns the files of a directory with their contents.
func dumpTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestRebuildAfterDamage damages every file of Badger in turn, in three ways: the store is the same or refused, and rebuilt it is the same.
func TestRebuildAfterDamage(t *testing.T) {
	opts := exporting(t)
	r := rand.New(rand.NewPCG(7, 8))
	model := map[string]string{}
	s := open(t, opts)
	churn(t, s, r, model, 200)
	died := copyStore(t, opts)
	died.Head = s.Head()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	closed := opts
	closed.Head = s.Head()
	closed.Head.Closed = true
	damages := map[string]func(path string, b []byte) error{
		"deleted": func(path string, _ []byte) error { return os.Remove(path) },
		"zeroed":  func(path string, b []byte) error { return os.WriteFile(path, make([]byte, len(b)), 0o600) },
		"torn":    func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)/2], 0o600) },
	}
	refused := 0
	for _, from := range []Options{closed, died} {
		names, err := os.ReadDir(metaDir(from))
		if err != nil || len(names) < 3 {
			t.Fatal(len(names), err)
		}
		for _, name := range names {
			for how, damage := range damages {
				if from.Dir == died.Dir && how != "torn" { // what a crash may do
					continue
				}
				o := from
				o.Dir = filepath.Join(t.TempDir(), "copy")
				copyTree(t, from.Dir, o.Dir)
				path := filepath.Join(metaDir(o), name.Name())
				b, err := os.ReadFile(path)
				if err == nil {
					err = damage(path, b)
				}
				if err != nil {
					t.Fatal(err)
				}
				if sameOrRefused(t, o, model) {
					refused++
				}
				rows, _ := rebuilt(t, o)
				if !maps.Equal(rows, model) {
					t.Errorf("%s %s: %d rows, want %d", name.Name(), how, len(rows), len(model))
				}
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// sameOrRefused opens the store: what it shows is what was written, or an error.
func sameOrRefused(t *testing.T, o Options, model map[string]string) (refused bool) {
	t.Helper()
	s, err := Open(ctx, o)
	if err != nil {
		return true
	}
	defer s.Close()
	got := map[string]string{}
	err = s.View(ctx, func(r kv.Reader) error {
		return r.Scan(ctx, nil, nil, 0, func(k, v []byte) bool { got[string(k)] = string(v); return true })
	})
	if err != nil {
		return true
	}
	sameRows(t, got, model)
	return false
}

// TestRebuildCutShort leaves what a rebuild that was interrupted leaves, at each of its steps.
func TestRebuildCutShort(t *testing.T) {
	opts := exporting(t)
	model := map[string]string{}
	s := open(t, opts)
	churn(t, s, rand.New(rand.NewPCG(9, 10)), model, 80)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, leave := range map[string]func(o Options) error{
		"half a directory": func(o Options) error {
			return errors.Join(os.Mkdir(filepath.Join(o.Dir, rebuildName), 0o700),
				os.WriteFile(filepath.Join(o.Dir, rebuildName, "MANIFEST"), []byte("half"), 0o600))
		},
		"exchanged": func(o Options) error { return os.Rename(metaDir(o), filepath.Join(o.Dir, rebuildName)) },
		"renamed twice": func(o Options) error {
			return errors.Join(os.Mkdir(filepath.Join(o.Dir, damagedName), 0o700), os.RemoveAll(metaDir(o)))
		},
	} {
		o := copyStore(t, opts)
		if err := leave(o); err != nil {
			t.Fatal(err)
		}
		rows, _ := rebuilt(t, o)
		if !maps.Equal(rows, model) {
			t.Errorf("%s: %d rows, want %d", name, len(rows), len(model))
		}
		if _, err := os.Lstat(filepath.Join(o.Dir, rebuildName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: leaves %s: %v", name, rebuildName, err)
		}
	}
}

// TestExportDamaged flips, cuts and lengthens an export file: never other rows, and the store writes it anew.
func TestExportDamaged(t *testing.T) {
	opts := exporting(t)
	model := map[string]string{}
	s := open(t, opts)
	r := rand.New(rand.NewPCG(11, 12))
	churn(t, s, r, model, 60)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(exportDir(opts), "*"+exportSuffix))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	slices.Sort(names)
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		b := bytes.Clone(whole)
		switch at := r.IntN(len(b)); i % 3 {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b = b[:at]
		case 2:
			b = append(b, byte(i))
		}
		if err := os.WriteFile(names[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		head, err := Rows(ctx, opts.Dir, opts.Key, opts.Volume, func(k, v []byte) error { seen[string(k)] = string(v); return nil })
		if err == nil && len(seen) > 0 && head.Sequence != 0 {
			t.Fatalf("damage %d is not noticed: %d rows", i, len(seen))
		}
	}
	s = open(t, opts)
	if err := s.VerifyExport(ctx); err == nil {
		t.Error("damage is not reported")
	}
	put(t, s, "one more", "row")
	checkpointNow(t, s)
	if err := s.VerifyExport(ctx); err != nil {
		t.Errorf("a damaged export is not written anew: %v", err)
	}
}

// FuzzExport reads an export of arbitrary bytes behind a good header.
func FuzzExport(f *testing.F) {
	opts := testOptions(f.TempDir())
	w, err := newExportWriter(opts.Dir, opts.Key, opts.Volume, exportHeader{to: point{seq: 1}})
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(w.add([]byte("k"), []byte("v")), w.add([]byte("l"), nil), w.finish(filepath.Join(opts.Dir, "x.rows"))); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(opts.Dir, "x.rows"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "x.rows")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := openExport(path, opts.Key, opts.Volume)
		if err != nil {
			return
		}
		defer r.close()
		rows := 0
		for ; r.key() != nil; r.next() {
			rows++
		}
		if r.failed() == nil && (rows != 2 || !bytes.Equal(b, good)) {
			t.Errorf("%d rows out of bytes that nobody wrote", rows)
		}
	})
}
