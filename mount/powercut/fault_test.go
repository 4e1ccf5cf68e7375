package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// faultWork is what faults are injected into: create, write, overwrite, truncate, and rename over another file, with the syncs between.
func faultWork(s *state) []op {
	old := s.list("", kindFile)[0]
	return []op{
		{kind: opCreate, path: "new"},
		{kind: opWrite, path: "new", n: 30000, seed: 9001},
		{kind: opFsync, path: "new"},
		{kind: opWrite, path: "new", off: 5000, n: 9000, seed: 9002},
		{kind: opTruncate, path: "new", off: 20001},
		{kind: opFdata, path: "new"},
		{kind: opWrite, path: "new", off: 20001, n: 40000, seed: 9003},
		{kind: opCheckpoint},
		{kind: opWrite, path: "new", off: 65536, n: 20000, seed: 9004},
		{kind: opRename, path: "new", to: old},
		{kind: opFsyncDir},
		{kind: opTruncate, path: old, off: 4096},
		{kind: opFsync, path: old},
	}
}

// TestFailNthLower fails the n-th operation of the lower disk, for n = 1, 2, ... until the work ends without: with the error of a full disk and with
// that of a broken one. The errno is the right one, what was acknowledged stays, no sync succeeds after one that failed, and the volume is good when it
// is opened again, after the death of the process as after a power cut.
func TestFailNthLower(t *testing.T) {
	n := mounttest.Seed(t)
	for which, kind := range simKinds[:2] {
		t.Run(kind.String(), func(t *testing.T) {
			base := simBase(t, kind, n)
			for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
				hits := 0
				for at := 1; ; at += mounttest.Times(2, 1) {
					hit, more := failLower(t, base, at, errno, rand.New(rand.NewPCG(n, uint64(at*2+which))))
					if hit {
						hits++
					}
					if !more {
						break
					}
				}
				if hits < 10 {
					t.Errorf("only %d operations failed with %v", hits, errno)
				}
				t.Logf("%v: %d faults that an operation met", errno, hits)
			}
		})
	}
}

// failLower makes the work with one fault. hit says whether an operation failed, more whether there was a step for the fault.
func failLower(t *testing.T, base *simSession, at int, errno syscall.Errno, rng *rand.Rand) (hit, more bool) {
	t.Helper()
	s := base.on(t, rng)
	defer func() { s.quit(); s.v.discard() }()
	s.mustOpen(rng.IntN(2) == 0)
	var failed simOp
	steps := 0
	s.v.disk.onStep(func(_ int, op simOp) error {
		if op.what == "checkpoint" {
			return nil
		}
		if steps++; steps != at {
			return nil
		}
		failed = op
		return errno
	})
	err := s.until(faultWork(s.h.now()))
	s.v.disk.onStep(nil)
	what := fmt.Sprintf("step %d (%s %s) fails with %v", at, failed.what, failed.path, errno)
	if failed.what == "" {
		if err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		return false, false
	}
	acknowledged := s.h.last()
	if err != nil {
		acknowledged--
		s.rightErrno(what, err, errno)
		if failed.what == simSync || failed.what == simSyncAll || failed.what == simSyncDir {
			s.refusesSync(what)
		}
	}
	s.intact(what, acknowledged, rng)
	return err != nil, true
}

// until makes operations until one fails, and returns its error.
func (s *simSession) until(ops []op) error {
	for _, o := range ops {
		if err := s.step(o); err != nil {
			return err
		}
	}
	return nil
}

// rightErrno: a broken disk is EIO. A full one is ENOSPC, or EIO where it is not known what got to the disk.
func (s *simSession) rightErrno(what string, err error, injected syscall.Errno) {
	s.t.Helper()
	if o := s.h.ops[len(s.h.ops)-1]; o.kind == opCheckpoint {
		return // it returns no errno
	}
	if !errors.Is(err, injected) && !errors.Is(err, syscall.EIO) {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// refusesSync: after a sync that failed none may succeed, whatever is asked.
func (s *simSession) refusesSync(what string) {
	s.t.Helper()
	again := []op{{kind: opFsyncDir}, {kind: opCheckpoint}}
	if last := s.h.ops[len(s.h.ops)-1]; last.kind == opFsync || last.kind == opFdata {
		again = append(again, last)
	}
	for _, o := range again {
		if err := s.target.do(o); err == nil {
			s.t.Fatalf("%s: %s succeeds afterwards\n%s", what, o, s.h)
		}
	}
}

// intact looks at the open volume, and at what the death of the process and a power cut leave of it, which then go on.
func (s *simSession) intact(what string, acknowledged int, rng *rand.Rand) {
	s.t.Helper()
	all := s.h.withFirst(acknowledged)
	if f, ok := s.r.above.(*failingKV); !ok || !f.late { // a store shows what it has failed to commit when it is opened again only
		s.agrees(what+", still open", all, s.target)
	}
	c := &simCut{badger: s.t.TempDir() + "/cut"}
	killed := s.v.killed(s.t)
	s.v.cutAnyway(s.t, c)
	s.quit()
	s.goesOn(what+", killed", all, killed)
	s.goesOn(what+", cut", s.h, s.v.cutOff(s.t, rng, c.badger))
}

func (s *simSession) agrees(what string, h *history, target target) *state {
	s.t.Helper()
	found, err := target.look()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", what, err, s.h)
	}
	known, err := h.check(found)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", what, err, s.h)
	}
	return known
}

// goesOn opens a volume, compares it, works on it and checks it.
func (s *simSession) goesOn(what string, h *history, v *simVolume) {
	s.t.Helper()
	after := &simSession{session: session{t: s.t, pick: s.pick, h: h}, v: v}
	defer func() { after.quit(); after.v.discard() }()
	if err := after.open(true); err != nil {
		s.t.Fatalf("%s: open: %v\n%s", what, err, s.h)
	}
	after.h = newHistory(s.agrees(what, h, after.target))
	after.prepare()
	after.reopen(true)
	after.must(op{kind: opCheckpoint})
	if err := after.r.check(); err != nil {
		s.t.Fatalf("%s: %v\n%s", what, err, s.h)
	}
}

// failingKV is a KV store that fails one commit.
type failingKV struct {
	*local.Store
	mu    sync.Mutex
	n     int   // commits to come until the one that fails
	err   error // that it fails with
	late  bool  // it fails when it is done
	fails bool  // everything fails from then on: err is ErrFailed
	hit   bool
}

func (f *failingKV) broken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hit && f.fails {
		return f.err
	}
	return nil
}

func (f *failingKV) Update(ctx context.Context, id kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	if err := f.broken(); err != nil {
		return 0, err
	}
	f.mu.Lock()
	f.n--
	now := f.n == 0
	f.hit = f.hit || now
	f.mu.Unlock()
	if now && !f.late {
		return 0, f.err
	}
	rev, err := f.Store.Update(ctx, id, fn)
	if now && err == nil {
		return 0, f.err
	}
	return rev, err
}

func (f *failingKV) Sync(ctx context.Context, rev kv.Rev) error {
	if err := f.broken(); err != nil {
		return err
	}
	return f.Store.Sync(ctx, rev)
}

func (f *failingKV) Checkpoint(ctx context.Context) error {
	if err := f.broken(); err != nil {
		return err
	}
	return f.Store.Checkpoint(ctx)
}

// commitFaults are the ways in which a commit may fail.
var commitFaults = []struct {
	name  string
	err   error
	errno syscall.Errno
	late  bool
	fails bool
}{
	{name: "no space", err: kv.ErrNoSpace, errno: syscall.ENOSPC},
	{name: "failed before", err: fmt.Errorf("%w: %w", kv.ErrFailed, syscall.EIO), errno: syscall.EIO, fails: true},
	{name: "failed behind", err: fmt.Errorf("%w: %w", kv.ErrFailed, syscall.EIO), errno: syscall.EIO, fails: true, late: true},
}

// TestFailNthCommit fails the n-th commit of the KV store. For want of space nothing is changed and the same operation succeeds when there is room; after
// a failure nothing succeeds until the volume is opened again.
func TestFailNthCommit(t *testing.T) {
	n := mounttest.Seed(t)
	base := simBase(t, simKinds[1], n)
	for _, fault := range commitFaults {
		t.Run(fault.name, func(t *testing.T) {
			for at := 1; ; at++ {
				rng := rand.New(rand.NewPCG(n, uint64(at)))
				s := base.on(t, rng)
				f := &failingKV{err: fault.err, late: fault.late, fails: fault.fails}
				s.mustOpenWith(simHooks{kv: func(store *local.Store) kvStore { f.Store = store; return f }})
				f.mu.Lock()
				f.n = at
				f.mu.Unlock()
				more := s.failCommit(f, fault.errno, fmt.Sprintf("commit %d: %s", at, fault.name), rng)
				s.quit()
				s.v.discard()
				if !more {
					if at < 5 {
						t.Errorf("only %d commits", at)
					}
					break
				}
			}
		})
	}
}

func (s *simSession) mustOpenWith(hooks simHooks) {
	s.t.Helper()
	r, err := s.v.open(s.t, hooks)
	if err != nil {
		s.t.Fatal(err)
	}
	s.r, s.target = r, &direct{r}
	if err := r.begin(true); err != nil {
		s.t.Fatal(err)
	}
}

// failCommit makes the work with one failing commit. It returns false if there was none.
func (s *simSession) failCommit(f *failingKV, errno syscall.Errno, what string, rng *rand.Rand) (more bool) {
	s.t.Helper()
	work := faultWork(s.h.now())
	err := s.until(work)
	if !f.hit {
		if err != nil {
			s.t.Fatalf("%s: without a fault: %v", what, err)
		}
		return false
	}
	acknowledged := s.h.last()
	if err != nil {
		acknowledged--
		last := s.h.ops[len(s.h.ops)-1]
		if last.kind != opCheckpoint && !errors.Is(err, errno) {
			s.t.Fatalf("%s: %v, want %v", what, err, errno)
		}
		if f.fails {
			again := []op{{kind: opCreate, path: "other"}, {kind: opCheckpoint}}
			if !f.late { // otherwise there may be nothing left to do
				again = append(again, last)
			}
			for _, o := range again {
				if s.target.do(o) == nil {
					s.t.Fatalf("%s: %s succeeds after a failure", what, o)
				}
			}
			if s.target.do(op{kind: opFsyncDir}) == nil { // where nothing was left to do it may, and must be right
				s.h.synced = max(s.h.synced, acknowledged)
			}
		} else { // nothing was changed
			s.h.cancel()
			if err := s.until(work[len(s.h.ops):]); err != nil {
				s.t.Fatalf("%s: again: %v\n%s", what, err, s.h)
			}
			acknowledged = s.h.last()
		}
	}
	s.intact(what, acknowledged, rng)
	return true
}
