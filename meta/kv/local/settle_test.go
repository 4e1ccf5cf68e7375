package local

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestSettleOrder: a journal-only row is settled when its record is durable, all of them are synced before
// rows enter Badger, and then they are gone; only the newest is settled, and a deleted one is not.
func TestSettleOrder(t *testing.T) {
	opts := create(t)
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	put(t, s, "A1", "row")
	put(t, s, "B1", "old image")
	put(t, s, "B2", "image to be deleted")
	put(t, s, "B1", "new image")
	last, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
		x.Delete([]byte("B2"))
		x.Put([]byte("B3"), []byte("image 3"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	inBadger := func(k string) bool {
		b := newBase(s.db, latest, nil)
		defer b.discard()
		v, err := b.get([]byte(k))
		if err != nil {
			t.Error(err)
		}
		return v != nil
	}
	settler.before = func(what string) error {
		if d := s.Stats().Durable; d < uint64(last) {
			t.Errorf("%s: records are durable up to %d of %d", what, d, last)
		}
		if inBadger("A1") {
			t.Errorf("%s: rows are in Badger already", what)
		}
		if got := dump(t, s); got["B1"] != "new image" || got["B3"] != "image 3" || len(got) != 3 {
			t.Errorf("%s: the store shows %q", what, got)
		}
		return nil
	}
	var steps []string
	s.step = func(step string) {
		steps = append(steps, step)
		if step == "write rows" && !slices.Equal(settler.log, []string{"settle B1", "settle B3", "sync"}) {
			t.Errorf("before rows are written the settler had %q", settler.log)
		}
	}
	checkpointNow(t, s)
	want := []string{"sync the journal", "settle rows", "sync what was settled", "write rows",
		"sync rows", "(badger is synced)", "export rows", "write the checkpoint row", "sync the checkpoint row", "(badger is synced)",
		"drop the overlay"}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %q", steps)
	}
	if got := dump(t, s); len(got) != 1 || got["A1"] != "row" {
		t.Errorf("after the checkpoint the store shows %q", got)
	}
	if inBadger("B1") || inBadger("B3") || !inBadger("A1") {
		t.Error("Badger holds the wrong rows")
	}
	if settler.get("B1") != "new image" || settler.get("B3") != "image 3" || settler.get("B2") != "" {
		t.Errorf("settled: %q", settler.rows)
	}
}

// TestNoSettler: a tool that opens a volume without a settler can read its images, but not lose them.
func TestNoSettler(t *testing.T) {
	opts := create(t)
	opts.Settler = newSettler()
	s := open(t, opts)
	put(t, s, "B1", "image")
	bare := copyStore(t, opts)
	bare.Settler = nil
	again := open(t, bare)
	if got := dump(t, again)["B1"]; got != "image" {
		t.Errorf("image reads %q", got)
	}
	if err := again.Checkpoint(ctx); err == nil {
		t.Error("checkpoint without a settler succeeded")
	}
	if err := again.Close(); err == nil {
		t.Error("close without a settler succeeded")
	}
	bare.Settler = newSettler()
	again = open(t, bare)
	if got := dump(t, again)["B1"]; got != "image" {
		t.Errorf("image reads %q", got)
	}
}

// image makes a value that tells which one it is and whether it is whole.
func image(block, version int, size int) []byte {
	b := fmt.Appendf(nil, "%d %d %s", block, version, strings.Repeat(string(rune('a'+version%26)), size))
	return fmt.Appendf(b, " %08x", crc32.ChecksumIEEE(b))
}

func parseImage(b []byte) (block, version int, err error) {
	i := strings.LastIndexByte(string(b), ' ')
	if i < 0 || fmt.Sprintf(" %08x", crc32.ChecksumIEEE(b[:i])) != string(b[i:]) {
		return 0, 0, fmt.Errorf("broken image %.40q", b)
	}
	_, err = fmt.Sscanf(string(b), "%d %d", &block, &version)
	return block, version, err
}

// TestImages reads images all the time, as content does (the image first, then where it settles), while they
// are overwritten, settled, and their segments recycled. An older snapshot must go on showing the image of
// its time, or none if it is settled.
func TestImages(t *testing.T) {
	const blocks = 6
	opts := create(t)
	opts.MaxJournal = 4 * opts.SegmentSize
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	var version [blocks]atomic.Int64 // acknowledged
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readImages(s, settler, &version, r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-s.CheckpointDue():
				checkpointNow(t, s)
			}
		}
	})
	r := rand.New(rand.NewPCG(7, 99))
	for i := 1; i <= rounds(1500, 20000); i++ {
		b := r.IntN(blocks)
		_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
			x.Put(fmt.Append(nil, "B", b), image(b, i, 200+r.IntN(4000)))
			x.Put(fmt.Append(nil, "C", b), fmt.Append(nil, i))
			return nil
		})
		if err != nil {
			t.Error(err)
			break
		}
		version[b].Store(int64(i))
	}
	close(stop)
	wg.Wait()
	if st := s.Stats(); st.Checkpoints < 5 || st.JournalFiles > 9 {
		t.Errorf("the test means to recycle segments: %+v", st)
	}
}

func readImages(s *Store, settler *fakeSettler, version *[6]atomic.Int64, r *rand.Rand) error {
	b := r.IntN(len(version))
	atLeast := int(version[b].Load())
	return s.View(ctx, func(v kv.Reader) error {
		for range 3 {
			rows, err := v.Get(ctx, fmt.Append(nil, "C", b), fmt.Append(nil, "B", b))
			if err != nil {
				return err
			}
			want := 0
			if rows[0] != nil {
				fmt.Sscan(string(rows[0]), &want)
			}
			if want < atLeast {
				return fmt.Errorf("block %d: snapshot of version %d after %d was acknowledged", b, want, atLeast)
			}
			if rows[1] == nil {
				if rows[1] = []byte(settler.get(fmt.Sprint("B", b))); want == 0 {
					return nil
				}
				// What has settled may be newer than the snapshot, never older.
				if _, got, err := parseImage(rows[1]); err != nil || got < want {
					return fmt.Errorf("block %d: settled version %d, snapshot says %d: %w", b, got, want, err)
				}
				continue
			}
			block, got, err := parseImage(rows[1])
			if err != nil || block != b || got != want {
				return fmt.Errorf("block %d: image of block %d version %d, want version %d: %w", b, block, got, want, err)
			}
		}
		return nil
	})
}

// TestLongView: a snapshot keeps the segments it needs, however many checkpoints go by, and stops nobody.
func TestLongView(t *testing.T) {
	opts := create(t)
	opts.MaxJournal = 3 * opts.SegmentSize
	opts.Settler = newSettler()
	s := open(t, opts)
	put(t, s, "B0", string(image(0, 1, 5000)))
	files := 0
	err := s.View(ctx, func(r kv.Reader) error {
		for i := 2; i < 200; i++ {
			put(t, s, "B0", string(image(0, i, 5000)))
		}
		files = s.Stats().JournalFiles
		v, err := r.Get(ctx, []byte("B0"))
		if err != nil {
			return err
		}
		if _, version, err := parseImage(v[0]); err != nil || version != 1 {
			t.Errorf("the old snapshot shows version %d, %v", version, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("%d segments while the view held 1 MB of them", files)
	}
	for range 3 { // the segments go when the ones after them are known to be durable
		put(t, s, "A", "1")
		checkpointNow(t, s)
	}
	if n := s.Stats().JournalFiles; n > 6 {
		t.Errorf("%d segments are left after the view", n)
	}
}

// TestRecycle: a segment is overwritten only when the header of the one after it is durable, also when it is
// the end of a View that makes it free. Otherwise a power cut could leave no segment that reaches back to the
// checkpoint.
func TestRecycle(t *testing.T) {
	opts := create(t)
	sim := newSimFiles()
	opts.Files = sim
	s := open(t, opts)
	err := s.View(ctx, func(kv.Reader) error {
		for s.journal.off < s.journal.current.size-6000 {
			put(t, s, "first", strings.Repeat("x", 2000))
		}
		checkpointNow(t, s)
		put(t, s, "second", strings.Repeat("x", 6000))
		if n := s.journal.current.number; n != 2 {
			t.Errorf("in segment %d, the test wants to begin the second", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; s.journal.current.number < 3; i++ {
		put(t, s, fmt.Sprint("third", i), strings.Repeat("x", 10000))
	}
	after := copyStore(t, opts)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(14, seed))
		after.Files, after.ReadOnly = sim.powerCut(r), true
		again, err := Open(ctx, after)
		if err != nil {
			t.Fatalf("power cut %d: %v", seed, err)
		}
		if dump(t, again)["first"] == "" {
			t.Fatalf("power cut %d: the checkpointed row is gone", seed)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackPressure: when the journal is full and no checkpoint can end, updates wait, may be cancelled, and
// go on afterwards. Reads go on all the time.
func TestBackPressure(t *testing.T) {
	opts := create(t)
	opts.MaxJournal = 3 * opts.SegmentSize
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	gate := make(chan struct{})
	small, cancel := context.WithCancel(ctx)
	settler.before = func(string) error {
		cancel() // the update that asked for this checkpoint waits now
		<-gate
		return nil
	}
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = s.Update(small, kv.OpID{}, func(x kv.Txn) error {
			x.Put(fmt.Append(nil, "B", n), make([]byte, 1000))
			return nil
		})
	}
	n--
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("update %d: %v", n, err)
	}
	if n < 100 || n > 200 {
		t.Errorf("the journal of 192 KiB took %d updates of 1 KB", n)
	}
	if got := len(dump(t, s)); got != n {
		t.Errorf("%d rows of %d", got, n)
	}
	select {
	case <-s.CheckpointDue():
	default:
		t.Error("a full journal did not signal that a checkpoint is due")
	}
	close(gate)
	for i := range 500 {
		put(t, s, fmt.Sprint("B", i), "small now "+strings.Repeat("x", 1000))
	}
	if st := s.Stats(); st.JournalFiles > 8 || st.Checkpoints == 0 {
		t.Errorf("the journal was not kept in bounds: %+v", st)
	}
}

// TestBackPressureFails: when the journal is full and the checkpoint fails, the update fails with its error,
// and a later one works.
func TestBackPressureFails(t *testing.T) {
	opts := create(t)
	opts.MaxJournal = 3 * opts.SegmentSize
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	settler.before = func(string) error { return errOwn }
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
			x.Put(fmt.Append(nil, "B", n), make([]byte, 1000))
			return nil
		})
	}
	if !errors.Is(err, errOwn) {
		t.Fatalf("after %d updates: %v", n, err)
	}
	settler.mu.Lock()
	settler.before = nil
	settler.mu.Unlock()
	put(t, s, "A", "works again")
	if got := len(settler.rows) + len(dump(t, s)); got != n {
		t.Errorf("%d rows, want %d", got, n)
	}
}
