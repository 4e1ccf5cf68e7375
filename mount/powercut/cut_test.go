package powercut

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

var lowers = []string{"ext4", "xfs"}

// plan is a workload and where it is cut.
type plan struct {
	kinds []opKind
	syncs []opKind // after each; "" is none
	cut   int      // before this step of all operations, syncs included; at the end if larger
	keep  bool
}

func (p plan) String() string {
	s := ""
	for i, kind := range p.kinds {
		s += fmt.Sprintf("%s+%s ", kind, p.syncs[i])
	}
	return fmt.Sprintf("%scut at %d keep %v", s, p.cut, p.keep)
}

// planFor returns the i-th of all plans: first each operation with each sync, cut at the end, then random ones of up to three operations.
func planFor(i int, rng *rand.Rand) plan {
	if singles := len(mutations) * len(syncs); i < singles {
		return plan{kinds: []opKind{mutations[i/len(syncs)]}, syncs: []opKind{syncs[i%len(syncs)]}, cut: 2, keep: rng.IntN(3) == 0}
	}
	var p plan
	for range 1 + rng.IntN(3) {
		p.kinds = append(p.kinds, mutations[rng.IntN(len(mutations))])
		p.syncs = append(p.syncs, syncs[rng.IntN(len(syncs))])
	}
	p.cut, p.keep = rng.IntN(2*len(p.kinds)+1), rng.IntN(3) == 0
	return p
}

// run makes the operations of a plan up to its cut.
func (s *session) run(p plan) {
	s.t.Helper()
	s.setKeep(p.keep)
	step := 0
	for i, kind := range p.kinds {
		o := s.draw(kind)
		for _, next := range []func() (op, bool){
			func() (op, bool) { return o, true },
			func() (op, bool) { return s.pick.sync(p.syncs[i], o, s.h.now()) },
		} {
			if step++; step > p.cut {
				return
			}
			if o, ok := next(); ok {
				s.must(o)
			}
		}
	}
}

// TestSequences makes small workloads on a mount and cuts the power of the lower filesystem before a step of each.
func TestSequences(t *testing.T) {
	n := mounttest.Seed(t)
	for which, lower := range lowers {
		t.Run(lower, func(t *testing.T) {
			t.Parallel() // most of a cut is waiting for processes and disks
			r := newRig(t, rigOptions{lower: lower})
			s := newMountedSession(t, r, n, which)
			for i := which; i < mounttest.Times(60, 7000); i += len(lowers) {
				rng := rand.New(rand.NewPCG(n, uint64(i)))
				s.prepare()
				p := planFor(i, rng)
				s.run(p)
				flags := cutFlags(rng)
				if err := r.disk.Cut(flags); err != nil {
					t.Fatal(err)
				}
				s.crashed(r, rng, fmt.Sprintf("cut %d: %s, flags %d", i, p, flags), i%10 < 2)
				progress(t, i/len(lowers)+1)
			}
		})
	}
}

func newMountedSession(t testing.TB, r *rig, n uint64, which int) *session {
	return &session{t: t, pick: &picker{Rand: rand.New(rand.NewPCG(n, 1000+uint64(which)))}, target: &mounted{dir: r.Mnt}, h: newHistory(newState())}
}

// crashed brings the volume back after a cut and checks everything.
func (s *session) crashed(r *rig, rng *rand.Rand, what string, closed bool) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Log(what)
		}
	}()
	r.crash(rng)
	_ = s.target.release() // of files of a mount that is gone
	s.compare(s.target.look())
	if err := r.fsck(); err != nil {
		s.t.Fatal(err)
	}
	if !closed {
		return
	}
	if err := r.fsckClosed(); err != nil {
		s.t.Fatal(err)
	}
	s.compare(s.target.look())
}

// TestUnderLoad cuts at random moments while several programs work on a mount, each in a directory of its own.
func TestUnderLoad(t *testing.T) {
	n := mounttest.Seed(t)
	for which, lower := range lowers {
		t.Run(lower, func(t *testing.T) {
			t.Parallel() // most of a cut is waiting for processes and disks
			testUnderLoad(t, rigOptions{lower: lower}, n+uint64(which)<<32, mounttest.Times(12, 1000))
		})
	}
}

// TestKeyStoreToo is TestUnderLoad with the key store on the disk that is cut: the anchor is cut with the volume.
func TestKeyStoreToo(t *testing.T) {
	n := mounttest.Seed(t)
	for which, lower := range lowers {
		t.Run(lower, func(t *testing.T) {
			t.Parallel() // most of a cut is waiting for processes and disks
			testUnderLoad(t, rigOptions{lower: lower, storeToo: true}, n+uint64(which+2)<<32, mounttest.Times(8, 500))
		})
	}
}

const loadWorkers = 3

func testUnderLoad(t *testing.T, o rigOptions, n uint64, cuts int) {
	r := newRig(t, o)
	var workers []*session
	for i := range loadWorkers {
		s := newMountedSession(t, r, n, i)
		dir := fmt.Sprintf("w%d", i)
		s.must(op{kind: opMkdir, path: dir})
		s.must(op{kind: opFsyncDir})
		s.h, s.pick.dir = newHistory(newState()), dir
		workers = append(workers, s)
	}
	rng := rand.New(rand.NewPCG(n, 0))
	operations := 0
	for i := range cuts {
		for _, s := range workers {
			s.prepare()
			s.setKeep(rng.IntN(3) == 0)
		}
		after := time.Duration(rng.IntN(400)) * time.Millisecond
		load(t, r, workers, after, cutFlags(rng))
		what := fmt.Sprintf("cut %d after %v", i, after)
		if rng.IntN(3) == 0 {
			for _, s := range workers {
				_ = s.target.release()
			}
			r.unmountInVain()
		}
		r.crash(rng)
		for _, s := range workers {
			_ = s.target.release()
			operations += len(s.h.ops)
		}
		found, err := workers[0].target.look()
		for _, s := range workers {
			s.compare(found, err)
		}
		if err := r.fsck(); err != nil {
			t.Fatal(what, err)
		}
		if i%5 == 0 {
			if err := r.fsckClosed(); err != nil {
				t.Fatal(what, err)
			}
		}
		progress(t, i+1)
	}
	t.Logf("%d cuts, %d operations", cuts, operations)
}

// progress tells how far a long form has come, for who has to end it early.
func progress(t *testing.T, cuts int) {
	t.Helper()
	if cuts%100 == 0 {
		t.Logf("%d cuts", cuts)
	}
}

// load lets the workers work, and cuts the power meanwhile.
func load(t *testing.T, r *rig, workers []*session, after time.Duration, flags int) {
	t.Helper()
	var dark atomic.Bool
	var wg sync.WaitGroup
	errs := make(chan error, len(workers)+1)
	for _, s := range workers {
		wg.Go(func() {
			if err := s.work(&dark); err != nil && !dark.Load() {
				errs <- err
			}
		})
	}
	time.Sleep(after)
	dark.Store(true) // before: an operation may fail as soon as the cut is made
	err := r.disk.Cut(flags)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
}

// work makes random operations until the lights go out or one fails.
func (s *session) work(dark *atomic.Bool) error {
	for !dark.Load() {
		o := s.random()
		if err := s.step(o); err != nil {
			return err
		}
		kind := opKind("")
		if s.pick.IntN(3) == 0 {
			kind = syncs[s.pick.IntN(len(syncs))]
		}
		if o, ok := s.pick.sync(kind, o, s.h.now()); ok {
			if err := s.step(o); err != nil {
				return err
			}
		}
	}
	return nil
}
