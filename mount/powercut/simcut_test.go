package powercut

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// simKinds are the volumes that simulated cuts are made on.
var simKinds = []simOptions{{blockSize: 4096, inline: 4096}, {blockSize: 16384, inline: 0}, {blockSize: 4096, inline: 0}, {blockSize: 16384, inline: 4096},
	{blockSize: 65536, inline: 4096, codec: meta.CodecZstd}}

func (o simOptions) String() string {
	return fmt.Sprintf("block%d-inline%d-%s", o.blockSize, o.inline, o.codec)
}

// simCut is where the power of a simulated disk is cut, and what Badger's directory was then.
type simCut struct {
	badger string
	at     simOp
}

// arm cuts the power before the n-th step from now on. The result is valid when the disk is dark.
func (v *simVolume) arm(t testing.TB, n int) *simCut {
	c := &simCut{badger: filepath.Join(t.TempDir(), "cut")}
	v.disk.onStep(func(step int, op simOp) error {
		if step == n {
			v.cutNow(t, c, op)
		}
		return nil
	})
	return c
}

// cutNow cuts the power. Called with the disk's mutex held.
func (v *simVolume) cutNow(t testing.TB, c *simCut, op simOp) {
	c.at = op
	copyBadger(t, v.badger(), c.badger)
	v.disk.dark = true
}

// cutAnyway cuts the power if that has not happened.
func (v *simVolume) cutAnyway(t testing.TB, c *simCut) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	if !v.disk.dark {
		v.cutNow(t, c, simOp{what: "the end"})
	}
}

func (d *simDisk) isDark() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dark
}

// simSession is a session on a simulated volume.
type simSession struct {
	session
	v *simVolume
	r *running
}

// open opens the volume that the session is on.
func (s *simSession) open(checkpoint bool) error {
	r, err := s.v.open(s.t, simHooks{})
	if err != nil {
		return err
	}
	s.r, s.target = r, &direct{r}
	return r.begin(checkpoint)
}

func (s *simSession) mustOpen(checkpoint bool) {
	s.t.Helper()
	if err := s.open(checkpoint); err != nil {
		s.t.Fatalf("open: %v\n%s", err, s.h)
	}
}

// quit closes a volume whose disk is dark or of which nothing is wanted any more.
func (s *simSession) quit() {
	if s.r != nil {
		_ = s.r.close()
		s.r = nil
	}
}

// runUntilDark makes operations until one fails because the power is cut.
func (s *simSession) runUntilDark(ops []op) {
	s.t.Helper()
	for _, o := range ops {
		if err := s.step(o); err != nil {
			if !s.v.disk.isDark() {
				s.t.Fatalf("%v\n%s", err, s.h)
			}
			return
		}
	}
}

// TestSimulatedSequences makes each operation with each sync, and random sequences, on a volume in this process, and cuts the power before every step
// that the disk and the checkpoints make, with several outcomes each.
func TestSimulatedSequences(t *testing.T) {
	n := mounttest.Seed(t)
	for which, kind := range simKinds {
		t.Run(kind.String(), func(t *testing.T) {
			base := simBase(t, kind, n)
			cuts := 0
			for i := which; i < mounttest.Times(72, 2000); i += len(simKinds) {
				cuts += simSequence(t, base, i, n)
			}
			t.Logf("%d cuts", cuts)
		})
	}
}

// simBase returns a session at rest, with some files, of which some have images in the journal.
func simBase(t *testing.T, kind simOptions, n uint64) *simSession {
	t.Helper()
	s := &simSession{session: session{t: t, pick: &picker{Rand: rand.New(rand.NewPCG(n, 77))}, h: newHistory(newState())}, v: newSimVolume(t, kind)}
	s.mustOpen(true)
	s.prepare()
	s.must(op{kind: opCheckpoint})
	for range 6 {
		s.must(s.random())
	}
	s.prepare()
	v := s.v.killed(t)
	s.quit()
	s.v = v
	return s
}

// on returns a session on a copy of the volume.
func (s *simSession) on(t testing.TB, rng *rand.Rand) *simSession {
	pick := *s.pick
	pick.Rand = rng
	return &simSession{session: session{t: t, pick: &pick, h: newHistory(s.h.now())}, v: s.v.killed(t)}
}

// simSequence makes the i-th plan, uncut to see how many steps it takes, and then cut before each of them. It returns how many cuts it checked.
func simSequence(t *testing.T, base *simSession, i int, n uint64) (cuts int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(n, uint64(i)))
	p := planFor(i, rng)
	tidy := rng.IntN(2) == 0
	dry := base.on(t, rand.New(rand.NewPCG(n, uint64(i))))
	dry.mustOpen(tidy)
	dry.v.disk.onStep(nil)
	p.cut = 100
	dry.run(p)
	if rng.IntN(3) == 0 {
		dry.must(op{kind: opCheckpoint})
	}
	ops, steps := dry.h.ops, dry.v.disk.count()
	dry.quit()
	dry.v.discard()
	stride := max(1, steps/mounttest.Times(12, 1000))
	for at := 1 + rng.IntN(stride); at <= steps+1; at += stride {
		s := base.on(t, rng)
		s.pick.names, s.pick.seed = dry.pick.names, dry.pick.seed
		s.mustOpen(tidy)
		c := s.v.arm(t, at)
		s.runUntilDark(ops)
		s.v.cutAnyway(t, c)
		s.quit()
		what := fmt.Sprintf("plan %d: %s, tidy %v, cut before step %d of %d, %s %s", i, p, tidy, at, steps, c.at.what, c.at.path)
		for range mounttest.Times(2, 4) {
			s.survives(s.v.cutOff(t, rng, c.badger), rng, what)
			cuts++
		}
		s.v.discard()
	}
	return cuts
}

// TestSimulatedReencryption seals all files of a volume anew, with changes between, and cuts the power before steps that the disk makes meanwhile. What is left
// goes on: everything is there, and it can be sealed anew to the end.
func TestSimulatedReencryption(t *testing.T) {
	n := mounttest.Seed(t)
	for which, kind := range simKinds {
		t.Run(kind.String(), func(t *testing.T) {
			base, cuts := simBase(t, kind, n), 0
			for i := range mounttest.Times(2, 100) {
				cuts += simReencryption(t, base, rand.New(rand.NewPCG(n, uint64(900+100*which+i))))
			}
			t.Logf("%d cuts", cuts)
		})
	}
}

func simReencryption(t *testing.T, base *simSession, rng *rand.Rand) (cuts int) {
	t.Helper()
	tidy := rng.IntN(2) == 0
	dry := base.on(t, rng)
	dry.mustOpen(tidy)
	dry.v.disk.onStep(nil)
	for range 3 {
		for _, f := range dry.h.now().list(dry.pick.dir, kindFile) {
			dry.must(op{kind: opReencrypt, path: f})
			dry.must(dry.draw(opWrite))
		}
		dry.must(op{kind: opCheckpoint})
	}
	ops, steps := dry.h.ops, dry.v.disk.count()
	dry.quit()
	dry.v.discard()
	stride := max(1, steps/mounttest.Times(6, 200))
	for at := 1 + rng.IntN(stride); at <= steps+1; at += stride {
		s := base.on(t, rng)
		s.mustOpen(tidy)
		c := s.v.arm(t, at)
		s.runUntilDark(ops)
		s.v.cutAnyway(t, c)
		s.quit()
		what := fmt.Sprintf("cut before step %d of %d, %s %s", at, steps, c.at.what, c.at.path)
		s.survives(s.v.cutOff(t, rng, c.badger), rng, what)
		s.v.discard()
		cuts++
	}
	return cuts
}

// survives opens what a cut has left, checks it, goes on with it, and closes and opens it again.
func (s *simSession) survives(left *simVolume, rng *rand.Rand, what string) {
	s.t.Helper()
	after := &simSession{session: session{t: s.t, pick: s.pick, h: s.h}, v: left}
	defer func() {
		if s.t.Failed() {
			s.t.Log(what)
		}
		after.quit()
		after.v.discard()
	}()
	tidy := rng.IntN(2) == 0
	after.mustOpen(tidy)
	after.compare(after.target.look())
	for range 3 {
		after.must(after.random())
	}
	if files := after.h.now().list(after.pick.dir, kindFile); len(files) > 0 {
		after.must(op{kind: opReencrypt, path: files[rng.IntN(len(files))]})
	}
	if rng.IntN(2) == 0 {
		after.reopen(true)
		tidy = true
	}
	after.must(op{kind: opCheckpoint})
	if !tidy { // every mount after a crash does it
		if err := after.r.sweep(); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := after.r.check(); err != nil {
		s.t.Fatalf("%v\nbefore the cut:\n%s\nthen:\n%s", err, s.h, after.h)
	}
}

// reopen closes the volume and opens it again; everything must be there.
func (s *simSession) reopen(checkpoint bool) {
	s.t.Helper()
	if err := s.r.close(); err != nil {
		s.t.Fatalf("close: %v\n%s", err, s.h)
	}
	s.r = nil
	s.v.keep(s.t)
	s.mustOpen(checkpoint)
	s.h = s.h.withAll()
	s.compare(s.target.look())
}

// TestSimulatedLoad takes volumes through random work, cuts at random steps, and deaths of the process.
func TestSimulatedLoad(t *testing.T) {
	n := mounttest.Seed(t)
	for which, kind := range simKinds {
		t.Run(kind.String(), func(t *testing.T) {
			s := &simSession{session: session{t: t, pick: &picker{Rand: rand.New(rand.NewPCG(n, 200+uint64(which)))}, h: newHistory(newState())}, v: newSimVolume(t, kind)}
			defer s.quit()
			s.mustOpen(true)
			for range mounttest.Times(40, 2500) {
				s.life()
			}
		})
	}
}

// life works until the power is cut or the process dies, and brings the volume back.
func (s *simSession) life() {
	s.t.Helper()
	rng := s.pick.Rand
	c := s.v.arm(s.t, 1+rng.IntN(250))
	for range 1 + rng.IntN(60) {
		if s.v.disk.isDark() {
			break
		}
		s.runUntilDark(s.some())
	}
	var next *simVolume
	killed := false
	if !s.v.disk.isDark() && rng.IntN(3) == 0 {
		next = s.v.killed(s.t)
		killed = true
		c.at.what = "killed"
	} else {
		s.v.cutAnyway(s.t, c)
		next = s.v.cutOff(s.t, rng, c.badger)
	}
	s.quit()
	s.v.discard()
	s.v = next
	defer func() {
		if s.t.Failed() {
			s.t.Logf("cut before %s %s", c.at.what, c.at.path)
		}
	}()
	tidy := rng.IntN(2) == 0
	s.mustOpen(tidy)
	if killed {
		s.unharmed(tidy)
	} else {
		s.compare(s.target.look())
	}
	if !tidy {
		return
	}
	if err := s.r.check(); err != nil {
		s.t.Fatalf("%v\n%s", err, s.h)
	}
}

// unharmed checks the state after the death of a process, which takes nothing. It is no more durable than before, unless there was a checkpoint: the
// history goes on.
func (s *simSession) unharmed(checkpoint bool) {
	s.t.Helper()
	old := s.h
	s.h = old.withAll()
	s.compare(s.target.look())
	if !checkpoint {
		s.h = old
	}
}

// some returns the next operation of a random workload, and perhaps a sync.
func (s *simSession) some() []op {
	if s.pick.IntN(15) == 0 {
		return []op{{kind: opCheckpoint}}
	}
	if files := s.h.now().list(s.pick.dir, kindFile); len(files) > 0 && s.pick.IntN(12) == 0 {
		return []op{{kind: opReencrypt, path: files[s.pick.IntN(len(files))]}}
	}
	o := s.random()
	if s.pick.IntN(3) > 0 {
		return []op{o}
	}
	after := s.h.now().after(o, 1<<30)
	if next, ok := s.pick.sync(syncs[s.pick.IntN(len(syncs))], o, after); ok {
		return []op{o, next}
	}
	return []op{o}
}
