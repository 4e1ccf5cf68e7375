package local

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// long reports whether the long forms of tests are wanted.
func long() bool { return os.Getenv("KMSFS_LONG") == "1" }

// rounds returns how often to repeat a random test, and seeds it.
func rounds(short, longer int) int {
	if long() {
		return longer
	}
	return short
}

// history is a workload with its expected state after every record.
type history struct {
	states []map[string]string // by sequence; states[0] is empty
	synced uint64
}

func newHistory() *history { return &history{states: []map[string]string{{}}} }

// commit runs one random transaction on s and notes the state after it.
func (h *history) commit(s *Store, r *rand.Rand) error {
	next := maps.Clone(h.states[len(h.states)-1])
	type change struct{ k, v string }
	var changes []change
	for range 1 + r.IntN(4) {
		k := fmt.Sprintf("%c%02d", "ACDB"[r.IntN(4)], r.IntN(30))
		if r.IntN(4) == 0 {
			changes = append(changes, change{k, ""})
			delete(next, k)
			continue
		}
		v := fmt.Sprintf("%s@%d:%s", k, len(h.states), strings.Repeat("x", r.IntN(700)))
		changes = append(changes, change{k, v})
		next[k] = v
	}
	rev, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
		for _, c := range changes {
			if c.v == "" {
				x.Delete([]byte(c.k))
			} else {
				x.Put([]byte(c.k), []byte(c.v))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if uint64(rev) != uint64(len(h.states)) {
		return fmt.Errorf("revision %d, want %d", rev, len(h.states))
	}
	h.states = append(h.states, next)
	return nil
}

func (h *history) last() uint64 { return uint64(len(h.states) - 1) }

// sync makes everything so far durable.
func (h *history) sync(s *Store) error {
	if err := s.Sync(ctx, kv.Rev(h.last())); err != nil {
		return err
	}
	h.synced = h.last()
	return nil
}

// check compares a recovered store with the history: it is at some record that is not before atLeast, and
// holds just that state. Rows of the kind that the settler takes may have gone to it.
func (h *history) check(t *testing.T, s *Store, settled *fakeSettler, atLeast uint64) uint64 {
	t.Helper()
	at := s.Stats().Sequence
	if at < atLeast || at > h.last() {
		t.Fatalf("recovered to record %d, want %d to %d", at, atLeast, h.last())
	}
	got := dump(t, s)
	for k, want := range h.states[at] {
		v, ok := got[k]
		if !ok && settled != nil && settled.JournalOnly([]byte(k)) {
			v = settled.get(k)
		}
		if v != want {
			t.Fatalf("at record %d, row %s is %.40q, want %.40q", at, k, v, want)
		}
		delete(got, k)
	}
	for k := range got {
		t.Fatalf("at record %d, row %s should not be there", at, k)
	}
	return at
}

// fakeSettler keeps B rows in a map.
type fakeSettler struct {
	mu     sync.Mutex
	rows   map[string]string
	log    []string
	before func(what string) error // called before Settle and Sync
}

func newSettler() *fakeSettler { return &fakeSettler{rows: map[string]string{}} }

func (f *fakeSettler) JournalOnly(key []byte) bool { return key[0] == 'B' }

func (f *fakeSettler) note(what string) error {
	f.mu.Lock()
	f.log = append(f.log, what)
	before := f.before
	f.mu.Unlock()
	if before != nil {
		return before(what)
	}
	return nil
}

func (f *fakeSettler) Settle(_ ctxType, key, value []byte) error {
	if err := f.note("settle " + string(key)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows[string(key)] = string(value)
	return nil
}

func (f *fakeSettler) Sync(ctxType) error { return f.note("sync") }

func (f *fakeSettler) get(k string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rows[k]
}

// clone copies the settled rows, as a crash leaves them.
func (f *fakeSettler) clone() *fakeSettler {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeSettler{rows: maps.Clone(f.rows)}
}

func TestReopenAfterClose(t *testing.T) {
	t.Parallel()
	opts := create(t)
	r := rand.New(rand.NewPCG(1, 1))
	opts.Settler = newSettler()
	h := newHistory()
	var head Head
	for generation := uint64(1); generation <= 4; generation++ {
		opts.Head = head
		s := open(t, opts)
		st := s.Stats()
		if !st.Recovery.Clean || st.Recovery.Records != 0 || st.Generation != generation || st.Sequence != h.last() {
			t.Fatalf("opening %d: %+v", generation, st)
		}
		h.check(t, s, opts.Settler.(*fakeSettler), h.last())
		for range 40 {
			if err := h.commit(s, r); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		head = s.Head()
		if head.Sequence != h.last() || head.Generation != generation {
			t.Fatalf("head after close: %+v", head)
		}
	}
}

// TestKill copies the store at random moments of a workload with checkpoints, without closing it. Nothing
// acknowledged is lost, and recovering twice, or being killed again right after recovery, changes nothing.
func TestKill(t *testing.T) {
	t.Parallel()
	const seed = 2
	for round := range rounds(4, 60) {
		t.Run(fmt.Sprint("seed ", seed, " round ", round), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(round)))
			opts := create(t)
			settler := newSettler()
			opts.Settler = settler
			s := open(t, opts)
			h := newHistory()
			for range 3 {
				for range r.IntN(120) {
					if err := h.commit(s, r); err != nil {
						t.Fatal(err)
					}
					switch r.IntN(30) {
					case 0:
						checkpointNow(t, s)
					case 1:
						syncNow(t, s, kv.Rev(h.last()))
					}
				}
				killed := copyStore(t, opts)
				killed.Settler = settler.clone()
				for range 2 {
					again := open(t, killed)
					h.check(t, again, killed.Settler.(*fakeSettler), h.last())
					killed2 := copyStore(t, killed)
					killed2.Settler = killed.Settler.(*fakeSettler).clone()
					if err := again.Close(); err != nil {
						t.Fatal(err)
					}
					killed = killed2
				}
			}
		})
	}
}

// TestCheckpointCut kills the store before every step of a checkpoint, and once after. The copy recovers to
// the same state, whether or not the next checkpoint on it is cut at the same step again.
func TestCheckpointCut(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	opts := create(t)
	opts.Export = true
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	h := newHistory()
	work := func(s *Store, h *history) {
		t.Helper()
		for range 60 {
			if err := h.commit(s, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	work(s, h)
	checkpointNow(t, s)
	work(s, h)
	steps := map[string]int{}
	s.step = func(step string) {
		steps[step]++
		work(s, h) // updates go on; they are not part of this checkpoint
		killed := copyStore(t, opts)
		killed.Settler = settler.clone()
		branch := &history{states: append([]map[string]string(nil), h.states...)}
		withoutBadger(t, killed, branch)
		for range 2 {
			again := open(t, killed)
			branch.check(t, again, killed.Settler.(*fakeSettler), branch.last())
			work(again, branch)
			var next Options
			again.step = func(inner string) {
				if inner == step {
					next = copyStore(t, killed)
					next.Settler = killed.Settler.(*fakeSettler).clone()
				}
			}
			checkpointNow(t, again)
			again.step = nil
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			killed = next
		}
		again := open(t, killed)
		branch.check(t, again, killed.Settler.(*fakeSettler), branch.last())
	}
	checkpointNow(t, s)
	s.step = nil
	if len(steps) != 10 {
		t.Errorf("steps seen: %v", steps)
	}
	h.check(t, s, settler, h.last())
}

// withoutBadger checks that export and journal hold everything at the moment of a crash.
func withoutBadger(t *testing.T, killed Options, h *history) {
	t.Helper()
	lost := copyStore(t, killed)
	lost.Settler = killed.Settler.(*fakeSettler).clone()
	if err := os.RemoveAll(metaDir(lost)); err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(ctx, lost, RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	s := open(t, lost)
	h.check(t, s, lost.Settler.(*fakeSettler), h.last())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointFails makes every step of a checkpoint fail that may fail and go on: the Settler's, and a
// full disk. Nothing is lost, and the next checkpoint does the work.
func TestCheckpointFails(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	opts := create(t)
	opts.Files = newSimFiles()
	opts.MinFree = 1 << 20
	settler := newSettler()
	opts.Settler = settler
	s := open(t, opts)
	h := newHistory()
	work := func() {
		for range 50 {
			if err := h.commit(s, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	settles := 0
	settler.before = func(what string) error {
		if settles++; settles == 5 {
			return errOwn
		}
		return nil
	}
	work()
	if err := s.Checkpoint(ctx); !errors.Is(err, errOwn) {
		t.Fatalf("checkpoint with a failing settler: %v", err)
	}
	h.check(t, s, nil, h.last()) // nothing has left the journal
	work()
	opts.Files.(*simFiles).free = 1<<19 - 1
	if err := s.Checkpoint(ctx); !errors.Is(err, kv.ErrNoSpace) {
		t.Fatalf("checkpoint on a full disk: %v", err)
	}
	h.check(t, s, nil, h.last())
	opts.Files.(*simFiles).free = 1 << 20
	work()
	before := s.Stats().Checkpoints
	checkpointNow(t, s)
	if n := s.Stats().Checkpoints - before; n != 2 {
		t.Errorf("%d checkpoints, want the one that failed and a new one", n)
	}
	if n := s.Stats().OverlayRows; n != 0 {
		t.Errorf("%d rows left in memory", n)
	}
	h.check(t, s, settler, h.last())
	// A failed sync of what was settled leaves the disk in an unknown state.
	work()
	settler.before = func(what string) error {
		if what == "sync" {
			return errOwn
		}
		return nil
	}
	if err := s.Checkpoint(ctx); !errors.Is(err, errOwn) || !errors.Is(err, kv.ErrFailed) {
		t.Fatalf("checkpoint with a failing sync: %v", err)
	}
	if _, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error { x.Put([]byte("k"), []byte("v")); return nil }); !errors.Is(err, kv.ErrFailed) {
		t.Fatalf("update of a failed store: %v", err)
	}
	h.check(t, s, settler, h.last())
}

var errOwn = errors.New("the test's own")

const childEnv = "KMSFS_TEST_LOCAL_CHILD"

// TestSIGKILL kills a child process in the middle of updates and checkpoints and looks for everything that
// it had acknowledged.
func TestSIGKILL(t *testing.T) {
	if dir := os.Getenv(childEnv); dir != "" {
		killMe(t, dir)
		return
	}
	// Not parallel: between fork and exec a child holds the locks of every store that is open here.
	opts := create(t)
	acked := 0
	r := rand.New(rand.NewPCG(5, 5))
	for round := range rounds(4, 40) {
		acked = max(acked, runChild(t, opts, time.Duration(30+r.IntN(200))*time.Millisecond))
		s := open(t, opts)
		rows := dump(t, s)
		for i := 1; i <= acked; i++ {
			if k := fmt.Sprintf("k%08d", i); rows[k] != fmt.Sprint("value ", i) {
				t.Fatalf("round %d: row %s of %d acknowledged is %q", round, k, acked, rows[k])
			}
		}
		if rows["last"] == "" && acked > 0 {
			t.Fatalf("round %d: no counter", round)
		}
		if n, _ := strconv.Atoi(rows["last"]); n != len(rows)-1 && len(rows) > 0 {
			t.Fatalf("round %d: counter %d beside %d rows", round, n, len(rows)-1)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acked == 0 {
		t.Fatal("no update was acknowledged in any round")
	}
}

// runChild lets the child work for a time after its first acknowledgement, kills it, and returns the last
// number it has acknowledged.
func runChild(t *testing.T, opts Options, work time.Duration) (acked int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSIGKILL$", "-test.v=false")
	cmd.Env = append(os.Environ(), childEnv+"="+opts.Dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill := func() { once.Do(func() { cmd.Process.Kill() }) }
	defer kill()
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Errorf("child says %q", lines.Text())
			continue
		}
		if acked = n; timer == nil {
			timer = time.AfterFunc(work, kill)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("child ended by itself")
	}
	return acked
}

// killMe is the child: it counts on from where the store is, and prints what is acknowledged.
func killMe(t *testing.T, dir string) {
	opts := testOptions(dir)
	s, err := Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if err := s.Checkpoint(ctx); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		last := 0
		_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
			v, err := x.Get(ctx, []byte("last"))
			if err != nil {
				return err
			}
			last, _ = strconv.Atoi(string(v[0]))
			last++
			x.Put(fmt.Appendf(nil, "k%08d", last), fmt.Append(nil, "value ", last))
			x.Put([]byte("last"), fmt.Append(nil, last))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(last)
	}
}
