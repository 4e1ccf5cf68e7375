package local

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// faultWork runs the same small workload every time: updates that fill some segments, syncs and a
// checkpoint. It returns the first error.
func faultWork(s *Store, h *history, r *rand.Rand) error {
	for i := range 150 {
		if err := h.commit(s, r); err != nil {
			return err
		}
		if i%25 == 24 {
			if err := h.sync(s); err != nil {
				return err
			}
		}
		if i == 60 {
			if err := s.Checkpoint(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestFailNth fails the n-th write or sync of the journal, for all n. Nothing panics, nothing acknowledged is
// missing while the store is still open or after its process died, nothing synced is missing after a power
// cut, and a failed write or sync is never followed by a success.
func TestFailNth(t *testing.T) {
	t.Parallel()
	stride := 7
	if long() {
		stride = 1
	}
	for n := 1; ; n += stride {
		if done := failNth(t, n); done {
			break
		}
	}
}

func failNth(t *testing.T, n int) (done bool) {
	t.Helper()
	opts := create(t)
	sim := newSimFiles()
	opts.Files, opts.Settler = sim, newSettler()
	s := open(t, opts)
	failed := false
	sim.setFault(func(op string, i int) error {
		if i == n && (op == "write" || op == "sync") {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	h := newHistory()
	r := rand.New(rand.NewPCG(8, uint64(n)))
	err := faultWork(s, h, r)
	if sim.ops() < n {
		if err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		return true
	}
	sim.mu.Lock()
	hit := failed
	sim.mu.Unlock()
	if !hit {
		return false // another kind of operation
	}
	settler := opts.Settler.(*fakeSettler)
	if s.Stats().Failed != nil {
		if !errors.Is(err, kv.ErrFailed) {
			t.Fatalf("fault %d: %v", n, err)
		}
		_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error { x.Put([]byte("k"), []byte("v")); return nil })
		if err2 := s.Sync(ctx, 0); !errors.Is(err, kv.ErrFailed) || !errors.Is(err2, kv.ErrFailed) {
			t.Fatalf("fault %d: later update: %v, later sync: %v", n, err, err2)
		}
		if err := s.Checkpoint(ctx); !errors.Is(err, kv.ErrFailed) {
			t.Fatalf("fault %d: later checkpoint: %v", n, err)
		}
	} else if err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatalf("fault %d: %v", n, err) // a segment could not be prepared: nothing is broken
	}
	h.check(t, s, settler, h.last())
	sim.setFault(nil)
	for _, left := range []*simFiles{sim.clone(), sim.powerCut(r)} {
		again := copyStore(t, opts)
		again.Files, again.Settler = left, settler.clone()
		s2, err := Open(ctx, again)
		if err != nil {
			t.Fatalf("fault %d: reopen: %v", n, err)
		}
		// The update that failed may turn up: it comes after everything acknowledged.
		if s2.Stats().Sequence == h.last()+1 {
			h.states = append(h.states, dumpWith(t, s2, again.Settler.(*fakeSettler)))
		}
		h.check(t, s2, again.Settler.(*fakeSettler), h.synced)
		if err := s2.Close(); err != nil {
			t.Fatalf("fault %d: close after reopening: %v", n, err)
		}
	}
	if err := s.Close(); s.Stats().Failed != nil && !errors.Is(err, kv.ErrFailed) {
		t.Fatalf("fault %d: close of a failed store: %v", n, err)
	}
	return false
}

// dumpWith is dump with the settled rows below it.
func dumpWith(t *testing.T, s *Store, settler *fakeSettler) map[string]string {
	t.Helper()
	rows := settler.clone().rows
	for k, v := range dump(t, s) {
		rows[k] = v
	}
	return rows
}

// TestNoSpace fills the disk: updates fail with ErrNoSpace when neither the next segment can be made nor a
// checkpoint, nothing is lost, and they work again when there is room for either.
func TestNoSpace(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files = sim
	opts.MinFree = 1 << 20
	s := open(t, opts)
	enough := sim.free
	full := func(op string, _ int) error {
		if op == "create" {
			return syscall.ENOSPC
		}
		return nil
	}
	sim.setFault(full)
	sim.free = 0
	var err error
	n := 0
	fill := func() {
		for err = nil; err == nil && n < 10000; n++ {
			_, err = s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
				x.Put(fmt.Append(nil, "k", n), make([]byte, 1000))
				return nil
			})
		}
		if err != nil {
			n--
		}
	}
	fill()
	if !errors.Is(err, kv.ErrNoSpace) {
		t.Fatalf("update %d on a full disk: %v", n, err)
	}
	if got := len(dump(t, s)); got != n || n == 0 {
		t.Fatalf("%d rows of %d", got, n)
	}
	syncNow(t, s, kv.Rev(n))
	sim.free = enough // for a checkpoint, which gives segments back
	before := n
	fill()
	if n != 10000 {
		t.Fatalf("update %d (%d before) without a new segment: %v", n, before, err)
	}
	// A half-made segment is no segment.
	sim.setFault(func(op string, _ int) error {
		if op == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := s.journal.supply.wait(ctx, 0); !errors.Is(err, kv.ErrNoSpace) {
		t.Fatalf("prepare a segment: %v", err)
	}
	sim.setFault(nil)
	put(t, s, "room", "again")
	if got := len(dump(t, s)); got != n+1 {
		t.Fatalf("%d rows of %d", got, n+1)
	}
}

// TestOpenOnFullDisk: with no room for a new segment the store opens, reads, and writes when there is room.
func TestOpenOnFullDisk(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files = sim
	s := open(t, opts)
	put(t, s, "a", "1")
	killed := copyStore(t, opts)
	left := sim.clone()
	// Keep only the segment with records, as if the spare one had never been made.
	for name := range left.files {
		if name != s.journal.current.name {
			delete(left.files, name)
		}
	}
	left.setFault(func(op string, _ int) error {
		if op == "create" {
			return syscall.ENOSPC
		}
		return nil
	})
	killed.Files = left
	again := open(t, killed)
	if got := dump(t, again); got["a"] != "1" {
		t.Fatalf("rows %q", got)
	}
	if _, err := again.Update(ctx, kv.OpID{}, func(x kv.Txn) error { x.Put([]byte("b"), []byte("2")); return nil }); !errors.Is(err, kv.ErrNoSpace) {
		t.Fatalf("update: %v", err)
	}
	checkpointNow(t, again) // must not give away the only segment that the chain is in
	killed2 := copyStore(t, killed)
	killed2.Files = left.clone()
	if got := dump(t, open(t, killed2)); got["a"] != "1" {
		t.Fatalf("rows after another crash %q", got)
	}
	left.setFault(nil)
	put(t, again, "b", "2")
	if got := dump(t, again); got["a"] != "1" || got["b"] != "2" {
		t.Fatalf("rows %q", got)
	}
}

func TestGroupCommit(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files = sim
	s := open(t, opts)
	const n = 8
	gate, entered := make(chan struct{}), make(chan struct{}, 2*n)
	syncs := 0
	sim.setFault(func(op string, _ int) error {
		if op == "sync" {
			syncs++
			sim.mu.Unlock()
			entered <- struct{}{}
			<-gate
			sim.mu.Lock()
		}
		return nil
	})
	var wg sync.WaitGroup
	start := func(k string) {
		rev := put(t, s, k, "v")
		wg.Go(func() {
			if err := s.Sync(ctx, rev); err != nil {
				t.Error(err)
			}
		})
	}
	start("first")
	<-entered // its flush is under way; all others have to wait for the next one
	for i := range n {
		start(fmt.Sprint("k", i))
	}
	close(gate)
	wg.Wait()
	if syncs != 2 {
		t.Errorf("%d flushes for %d syncs, want 2", syncs, n+1)
	}
	sim.setFault(nil)
}

func TestOpenErrors(t *testing.T) {
	opts := create(t)
	if err := Create(ctx, opts); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create again: %v", err)
	}
	s := open(t, opts)
	put(t, s, "a", "1")
	if _, err := Open(ctx, opts); !errors.Is(err, kv.ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if err := Create(ctx, opts); !errors.Is(err, kv.ErrLocked) {
		t.Errorf("create over an open store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	bad := opts
	bad.Key = &blockcrypt.Key{7}
	if _, err := Open(ctx, bad); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("wrong key: %v", err)
	}
	bad = opts
	bad.Volume[0]++
	if _, err := Open(ctx, bad); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("wrong volume: %v", err)
	}
	bad = opts
	bad.Dir = filepath.Join(t.TempDir(), "none")
	if _, err := Open(ctx, bad); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	for name, change := range map[string]func(*Options){
		"no directory":   func(o *Options) { o.Dir = "" },
		"no key":         func(o *Options) { o.Key = nil },
		"small segments": func(o *Options) { o.SegmentSize = 1 },
		"large segments": func(o *Options) { o.SegmentSize = 1 << 40 },
		"small journal":  func(o *Options) { o.MaxJournal = o.SegmentSize },
	} {
		bad := opts
		change(&bad)
		if _, err := Open(ctx, bad); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	own := errors.New("replay's own")
	s = open(t, opts)
	put(t, s, "b", "2")
	killed := copyStore(t, opts)
	killed.Replay = func(Record) error { return own }
	if _, err := Open(ctx, killed); !errors.Is(err, own) {
		t.Errorf("replay fails: %v", err)
	}
	killed.Replay = nil
	if got := dump(t, open(t, killed)); len(got) != 2 {
		t.Errorf("after a failed open: %q", got)
	}
}

func TestReadOnly(t *testing.T) {
	opts := create(t)
	s := open(t, opts)
	put(t, s, "a", "1")
	killed := copyStore(t, opts)
	killed.ReadOnly = true
	for range 2 { // after a crash, and again
		ro := open(t, killed)
		if got := dump(t, ro); len(got) != 1 || got["a"] != "1" {
			t.Fatalf("rows %q", got)
		}
		if _, err := ro.Update(ctx, kv.OpID{}, func(kv.Txn) error { return nil }); !errors.Is(err, kv.ErrReadOnly) {
			t.Errorf("update: %v", err)
		}
		if err := ro.Checkpoint(ctx); !errors.Is(err, kv.ErrReadOnly) {
			t.Errorf("checkpoint: %v", err)
		}
		if err := ro.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	clean := opts
	clean.ReadOnly = true
	one, two := open(t, clean), open(t, clean)
	if got := dump(t, one); got["a"] != "1" || dump(t, two)["a"] != "1" {
		t.Errorf("two readers of a clean store: %q", got)
	}
}

// TestSegmentSizeChange opens a store again and again with other sizes of segments.
func TestSegmentSizeChange(t *testing.T) {
	opts := create(t)
	h := newHistory()
	r := rand.New(rand.NewPCG(9, 9))
	opts.Settler = newSettler()
	for i, size := range []int64{64 << 10, 128 << 10, 32 << 10, 64 << 10} {
		opts.SegmentSize, opts.MaxJournal = size, 16*size
		s := open(t, opts)
		h.check(t, s, opts.Settler.(*fakeSettler), h.last())
		for range 300 {
			if err := h.commit(s, r); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			killed := copyStore(t, opts)
			killed.Settler = opts.Settler.(*fakeSettler).clone()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			opts = killed
			continue
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplay: recovery shows every record after the checkpoint once, in order, with what was before.
func TestReplay(t *testing.T) {
	opts := create(t)
	opts.Settler = newSettler()
	s := open(t, opts)
	put(t, s, "A1", "checkpointed")
	put(t, s, "A2", "checkpointed")
	checkpointNow(t, s)
	put(t, s, "A1", "second")
	put(t, s, "B1", "image")
	_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
		x.Put([]byte("A1"), []byte("third"))
		x.Delete([]byte("A2"))
		x.Delete([]byte("B1"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	killed := copyStore(t, opts)
	var got []string
	killed.Replay = func(rec Record) error {
		line := fmt.Sprint(rec.Seq)
		for _, p := range rec.Puts {
			old, err := rec.Before(p.Key)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s:%s>%s", p.Key, old, p.Value)
		}
		for _, k := range rec.Deletes {
			old, err := rec.Before(k)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s:%s>", k, old)
		}
		got = append(got, line)
		return nil
	}
	again := open(t, killed)
	want := []string{"3 A1:checkpointed>second", "4 B1:>image", "5 A1:second>third A2:checkpointed> B1:image>"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("replayed %q, want %q", got, want)
	}
	if rec := again.Stats().Recovery; rec.Records != 3 || rec.Clean || rec.Bytes == 0 {
		t.Errorf("recovery %+v", rec)
	}
}

// TestEmptyLogs: Badger's logs of no length, which a crash leaves between making one and giving it its size,
// do not keep the store from opening.
func TestEmptyLogs(t *testing.T) {
	opts := create(t)
	s := open(t, opts)
	put(t, s, "a", "1")
	checkpointNow(t, s)
	put(t, s, "b", "2")
	for _, readOnly := range []bool{false, true} {
		killed := copyStore(t, opts)
		for _, name := range []string{"00099.mem", "000099.vlog"} {
			if err := os.WriteFile(filepath.Join(metaDir(killed), name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		killed.ReadOnly = readOnly
		if got := dump(t, open(t, killed)); len(got) != 2 {
			t.Errorf("read-only %v: rows %q", readOnly, got)
		}
	}
}

// TestLargeRows brings rows and images of the largest size through Badger (several of its memory tables) and
// through recovery.
func TestLargeRows(t *testing.T) {
	opts := create(t)
	opts.SegmentSize, opts.MaxJournal = 0, 0
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	const n = 160
	row := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), s.Caps().MaxValue) }
	picture := strings.Repeat("0123456789abcdef", 1<<16) + "head"
	for i := range n {
		put(t, s, fmt.Sprintf("A%03d", i), row(i))
	}
	put(t, s, "B1", picture)
	check := func(s *Store, where string, settled bool) {
		t.Helper()
		got := dump(t, s)
		for i := range n {
			if got[fmt.Sprintf("A%03d", i)] != row(i) {
				t.Fatalf("%s: row %d is not what was written", where, i)
			}
		}
		if settled == (got["B1"] == picture) || settled != (settler.get("B1") == picture) {
			t.Fatalf("%s: image of %d bytes in the store, %d settled", where, len(got["B1"]), len(settler.get("B1")))
		}
	}
	check(s, "overlay", false)
	killed := copyStore(t, opts)
	check(open(t, killed), "recovered", false)
	checkpointNow(t, s)
	check(s, "Badger", true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, opts), "reopened", true)
}
