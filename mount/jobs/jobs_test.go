package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/jobs"
)

var bg = context.Background()

// rig is a mount with a runner of jobs beside it.
type rig struct {
	t *testing.T
	m *fstest.Mount
	*jobs.Runner
	stop   func()
	allow  func(j *meta.Job) error
	slow   func(ino meta.Ino) error // called at every step of a file; nil: nothing
	files  map[string][]byte
	before func(bytes int) // called before the job hears of a step; nil: nothing
	clock  jobs.Clock      // nil: the machine's
	ready  func() error
	ended  []jobs.Status // that were told of; read when a job is over
}

// seam is the content of the mount, with the rig's function between the steps.
type seam struct {
	*content.Engine
	r *rig
}

func (s seam) Reencrypt(ctx context.Context, ino meta.Ino, epoch uint32, most func() int, done func(int) error) error {
	return s.Engine.Reencrypt(ctx, ino, epoch, most, func(n int) error {
		if s.r.before != nil {
			s.r.before(n)
		}
		err := done(n)
		if err == nil && s.r.slow != nil {
			err = s.r.slow(ino)
		}
		return err
	})
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, m: fstest.NewMount(t, fstest.Options{}), files: map[string][]byte{}, allow: func(*meta.Job) error { return nil }}
	t.Cleanup(func() { r.halt() })
	return r
}

// start begins to work on the jobs, as a daemon does.
func (r *rig) start() {
	r.Runner = jobs.New(jobs.Config{Meta: r.m.Store, Content: seam{r.m.Content, r}, Allow: func(_ context.Context, j *meta.Job) error { return r.allow(j) }, Clock: r.clock,
		Ready: func(context.Context, *meta.Job) error {
			if r.ready != nil {
				return r.ready()
			}
			return nil
		},
		Ended: func(st jobs.Status, _ error) { r.ended = append(r.ended, st) }})
	ctx, cancel := context.WithCancel(bg)
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	r.stop = func() { cancel(); running.Wait() }
}

func (r *rig) halt() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// restart is a daemon that ends and another that begins.
func (r *rig) restart() {
	r.t.Helper()
	r.halt()
	r.m.Remount()
	r.start()
}

// file makes a file of random bytes.
func (r *rig) file(path string, size int) meta.Ino {
	r.t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(len(r.files))}).Read(b)
	full := r.m.Path(path)
	must(r.t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(r.t, os.WriteFile(full, b, 0o644))
	r.files[path] = b
	return r.ino(path)
}

func (r *rig) ino(path string) meta.Ino {
	r.t.Helper()
	var st syscall.Stat_t
	must(r.t, syscall.Stat(r.m.Path(path), &st))
	return meta.Ino(st.Ino)
}

// epoch returns the current epoch of a file and how many keys it has.
func (r *rig) epoch(path string) (epoch uint32, wraps int) {
	r.t.Helper()
	a, err := r.m.Store.Getattr(bg, r.ino(path))
	must(r.t, err)
	return a.Epoch, len(a.Wraps)
}

func (r *rig) same() {
	r.t.Helper()
	for path, want := range r.files {
		if got, err := os.ReadFile(r.m.Path(path)); err != nil || !bytes.Equal(got, want) {
			r.t.Errorf("%s differs, %v", path, err)
		}
	}
}

// until waits for a job to be as it should.
func (r *rig) until(id meta.JobID, what string, ok func(jobs.Status) bool) jobs.Status {
	r.t.Helper()
	deadline := time.After(time.Minute)
	for {
		st, changed, err := r.Get(bg, id)
		must(r.t, err)
		if ok(st) {
			return st
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			r.t.Fatalf("%s: %+v", what, st)
		}
	}
}

func (r *rig) done(id meta.JobID) jobs.Status {
	r.t.Helper()
	return r.until(id, "done", func(st jobs.Status) bool { return st.State == meta.JobDone })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestScope: a job does what lies below its root, and nothing else.
func TestScope(t *testing.T) {
	r := newRig(t)
	r.start()
	for _, path := range []string{"a/one", "a/b/two", "a/b/c/three", "d/four", "five"} {
		r.file(path, 10_000)
	}
	j, err := r.Reencrypt(bg, r.ino("a/b"), 1, 2, 0, 0)
	must(t, err)
	st := r.done(j.ID)
	if st.Files != 2 || st.TotalFiles != 2 || st.Bytes != 20_000 || st.Failed != 0 || st.UID != 1 || st.GID != 2 {
		t.Errorf("%+v", st)
	}
	one, err := r.Reencrypt(bg, r.ino("five"), 0, 0, 0, 0)
	must(t, err)
	if st := r.done(one.ID); st.Files != 1 || one.ID != j.ID+1 {
		t.Errorf("%+v", st)
	}
	for path, want := range map[string]uint32{"a/one": 1, "a/b/two": 2, "a/b/c/three": 2, "d/four": 1, "five": 2} {
		if epoch, wraps := r.epoch(path); epoch != want || wraps != 1 {
			t.Errorf("%s: epoch %d, %d keys; want epoch %d", path, epoch, wraps, want)
		}
	}
	if _, err := r.Reencrypt(bg, 1<<40, 0, 0, 0, 0); !errors.Is(err, meta.ErrNotFound) {
		t.Errorf("no such root: %v", err)
	}
	must(t, os.Symlink("x", r.m.Path("link")))
	a, err := r.m.Store.Lookup(bg, meta.RootIno, []byte("link"))
	must(t, err)
	if _, err := r.Reencrypt(bg, a.Ino, 0, 0, 0, 0); !errors.Is(err, meta.ErrInvalid) {
		t.Errorf("a symbolic link: %v", err)
	}
	r.same()
}

// TestGoesOn stops the work at random points, by pauses and by restarts: nothing is done twice but what was not written down, and all of it is done.
func TestGoesOn(t *testing.T) {
	r := newRig(t)
	rng := rand.New(rand.NewPCG(fstest.Seed(), 3))
	total := 0
	for i := range 30 {
		size := []int{0, 100, 5000, 300_000, 9 << 20}[rng.IntN(5)]
		if i < 2 {
			size = 9 << 20
		}
		r.file(fmt.Sprint("d", i%4, "/f", i), size)
		total += size
	}
	var mu sync.Mutex
	step, next := 0, 1+rng.IntN(10)
	reached := make(chan struct{}, 1)
	hold, give := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(give) }) // before the rig's cleanup
	r.slow = func(meta.Ino) error {
		mu.Lock()
		defer mu.Unlock()
		if step++; step != next {
			return nil
		}
		reached <- struct{}{}
		mu.Unlock()
		select {
		case <-hold:
		case <-give:
		}
		mu.Lock()
		return nil
	}
	arm := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		step, next = 0, n
	}
	r.start()
	j, err := r.Reencrypt(bg, meta.RootIno, 0, 0, 0, 0)
	must(t, err)
	stops := 0
	for r.stopped(j.ID, reached) {
		arm(0) // it must not be held while it is waited for
		over := make(chan error, 1)
		restart := stops%2 == 0
		if halt, id := r.stop, j.ID; restart {
			go func() { halt(); over <- nil }()
		} else {
			go func() { over <- r.Pause(bg, id) }()
		}
		hold <- struct{}{}
		err := <-over
		if errors.Is(err, jobs.ErrEnded) { // that was its last step
			continue
		}
		must(t, err)
		arm(1 + rng.IntN(40))
		stops++
		if restart {
			r.stop = nil
			r.m.Remount()
			r.start()
			continue
		}
		if st, _, err := r.Get(bg, j.ID); err != nil || st.State != meta.JobPaused || st.Working {
			t.Fatalf("%+v, %v", st, err)
		}
		must(t, r.Resume(bg, j.ID))
	}
	st := r.done(j.ID)
	t.Logf("stopped %d times, %d bytes sealed of %d", stops, st.Bytes, total)
	if stops < 3 || st.Bytes < uint64(total) {
		t.Errorf("stopped %d times, %d of %d bytes", stops, st.Bytes, total)
	}
	r.same()
	for path := range r.files {
		if epoch, wraps := r.epoch(path); epoch < 2 || wraps != 1 {
			t.Errorf("%s: epoch %d, %d keys", path, epoch, wraps)
		}
	}
	r.m.Check()
}

// stopped waits until the work has reached a point where it is to be stopped, or is done.
func (r *rig) stopped(id meta.JobID, reached <-chan struct{}) bool {
	r.t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case <-reached:
			return true
		case <-deadline:
			r.t.Fatal("the job does not go on")
		case <-time.After(20 * time.Millisecond):
		}
		st, _, err := r.Get(bg, id)
		must(r.t, err)
		if st.State == meta.JobDone {
			return false
		}
	}
}

// TestFailures: what may pass is waited for, what is damaged is passed over and reported, and a refusal pauses the job.
func TestFailures(t *testing.T) {
	r := newRig(t)
	r.file("a", 100_000)
	bad := r.file("bad", 100_000)
	r.file("c", 100_000)
	var mu sync.Mutex
	full := 2
	r.slow = func(ino meta.Ino) error {
		mu.Lock()
		defer mu.Unlock()
		if full > 0 {
			full--
			return fmt.Errorf("write: %w", syscall.ENOSPC)
		}
		if ino == bad {
			return fmt.Errorf("block 3: %w", meta.ErrAuth)
		}
		return nil
	}
	r.start()
	j, err := r.Reencrypt(bg, meta.RootIno, 0, 0, 0, 0)
	must(t, err)
	st := r.done(j.ID)
	if st.Failed != 1 || st.Files != 2 || st.Problem == "" || len(st.Skipped) != 1 || st.Skipped[0].Ino != bad || st.Skipped[0].Why != st.Problem {
		t.Errorf("%+v", st)
	}
	if ended := r.ended; len(ended) != 1 || ended[0].ID != j.ID || ended[0].State != meta.JobDone || ended[0].Files != 2 {
		t.Errorf("told of %+v", ended)
	}
	r.allow = func(*meta.Job) error { return fmt.Errorf("%w: not you", jobs.ErrDenied) }
	if _, err := r.Reencrypt(bg, meta.RootIno, 0, 0, 0, 0); !errors.Is(err, jobs.ErrDenied) {
		t.Errorf("a submission that is refused: %v", err)
	}
	asked := 0
	r.allow = func(*meta.Job) error { // at submission, not when the work begins
		if asked++; asked > 1 {
			return fmt.Errorf("%w: not any more", jobs.ErrDenied)
		}
		return nil
	}
	j, err = r.Reencrypt(bg, meta.RootIno, 0, 0, 0, 0)
	must(t, err)
	st = r.until(j.ID, "paused", func(st jobs.Status) bool { return st.State == meta.JobPaused && !st.Working })
	if st.Files != 0 || st.Problem == "" {
		t.Errorf("%+v", st)
	}
	if err := r.Resume(bg, j.ID); !errors.Is(err, jobs.ErrDenied) {
		t.Errorf("resume: %v", err)
	}
	must(t, r.Cancel(bg, j.ID))
	for _, do := range []func(context.Context, meta.JobID) error{r.Pause, r.Resume, r.Cancel} {
		if err := do(bg, j.ID); !errors.Is(err, jobs.ErrEnded) {
			t.Errorf("of a cancelled job: %v", err)
		}
		if err := do(bg, 99); !errors.Is(err, jobs.ErrNoJob) {
			t.Errorf("of no job: %v", err)
		}
	}
	r.slow = nil
	r.allow = func(*meta.Job) error { return nil }
	r.restart()
	if st, _, err := r.Get(bg, j.ID); err != nil || st.State != meta.JobCancelled {
		t.Errorf("after a restart: %+v, %v", st, err)
	}
	r.same()
}

// TestForgotten: of jobs that are over, only the last ones stay in the list.
func TestForgotten(t *testing.T) {
	r := newRig(t)
	ino := r.file("f", 10)
	r.start()
	var last meta.JobID
	for range 40 {
		j, err := r.Reencrypt(bg, ino, 0, 0, 0, 0)
		must(t, err)
		last = r.done(j.ID).ID
	}
	list, err := r.List(bg)
	must(t, err)
	if len(list) > 34 || list[len(list)-1].ID != last || last != 40 {
		t.Errorf("%d jobs, the last is %d", len(list), list[len(list)-1].ID)
	}
}

// handClock goes on by what is slept, and by what a test says the work took.
type handClock struct {
	mu    sync.Mutex
	now   time.Time
	slept time.Duration
	spent time.Duration
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Sleep(_ context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.slept = c.now.Add(d), c.slept+d
}

func (c *handClock) work(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.spent = c.now.Add(d), c.spent+d
}

// TestLimits accounts for every byte and every moment of whole jobs, by a clock of the test: at a rate they take what the bytes take, with a share of the time the rest of it is slept.
func TestLimits(t *testing.T) {
	const step = 10 * time.Millisecond // that a step takes
	for _, c := range []struct {
		name string
		rate uint64
		cpu  uint8
		took func(bytes uint64, spent time.Duration) time.Duration // work and sleep
	}{
		{"no limit", 0, 0, func(_ uint64, spent time.Duration) time.Duration { return spent }},
		{"rate", 1 << 20, 0, func(n uint64, _ time.Duration) time.Duration { return time.Duration(n) * time.Second >> 20 }},
		{"share", 0, 20, func(_ uint64, spent time.Duration) time.Duration { return 5 * spent }},
		{"the lower of both", 1 << 30, 50, func(_ uint64, spent time.Duration) time.Duration { return 2 * spent }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			for i := range 20 {
				r.file(fmt.Sprint("f", i), 100_000+i*30_000)
			}
			clock := &handClock{now: time.Unix(1_000_000, 0)}
			r.clock = clock
			r.slow = func(meta.Ino) error { return nil }
			r.before = func(int) { clock.work(step) }
			r.start()
			j, err := r.Reencrypt(bg, meta.RootIno, 0, 0, c.rate, c.cpu)
			must(t, err)
			st := r.done(j.ID)
			clock.mu.Lock()
			defer clock.mu.Unlock()
			total, want := clock.spent+clock.slept, c.took(st.Bytes, clock.spent)
			if clock.spent < 20*step || total < want*95/100 || total > want*105/100 {
				t.Errorf("%d bytes: worked %v and slept %v, want %v in all", st.Bytes, clock.spent, clock.slept, want)
			}
		})
	}
}

// TestStepsAtRate: a job has never done more than its rate allows up to then and for one second more, whatever its files are, so that a pause finds it at work.
func TestStepsAtRate(t *testing.T) {
	const rate = 200 << 10
	r := newRig(t)
	total := 0
	for i, size := range []int{5 << 20, 900_000, 300_000, 100_000, 100_000, 3000} {
		r.file(fmt.Sprint("f", i), size)
		total += size
	}
	clock := &handClock{now: time.Unix(1_000_000, 0)}
	r.clock = clock
	begin, sum := clock.Now(), 0
	r.before = func(n int) {
		if may := rate * (clock.Now().Sub(begin).Seconds() + 1.1); float64(sum+n) > may {
			t.Errorf("a step of %d bytes after %d in %v", n, sum, clock.Now().Sub(begin))
		}
		sum += n
	}
	r.start()
	j, err := r.Reencrypt(bg, meta.RootIno, 0, 0, rate, 0)
	must(t, err)
	if st := r.done(j.ID); st.Bytes != uint64(total) || sum != total {
		t.Errorf("%d bytes of %d, in steps of %d: %+v", st.Bytes, total, sum, st)
	}
	r.same()
}

// TestReady: what stands against a job refuses it at submission and on resume, and nothing is left of it.
func TestReady(t *testing.T) {
	r := newRig(t)
	ino := r.file("f", 10)
	no := errors.New("no room")
	r.ready = func() error { return no }
	r.start()
	if _, err := r.Reencrypt(bg, ino, 0, 0, 0, 0); !errors.Is(err, no) {
		t.Errorf("submission: %v", err)
	}
	if list, err := r.List(bg); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	r.ready = nil
	asked := 0
	r.allow = func(*meta.Job) error { // at submission, not when the work begins
		if asked++; asked > 1 {
			return fmt.Errorf("%w: not any more", jobs.ErrDenied)
		}
		return nil
	}
	j, err := r.Reencrypt(bg, ino, 0, 0, 0, 0)
	must(t, err)
	r.until(j.ID, "paused", func(st jobs.Status) bool { return st.State == meta.JobPaused && !st.Working })
	if len(r.ended) != 1 || r.ended[0].State != meta.JobPaused {
		t.Errorf("told of %+v", r.ended)
	}
	r.halt()
	r.allow = func(*meta.Job) error { return nil }
	r.ready = func() error { return no }
	r.restart()
	if err := r.Resume(bg, j.ID); !errors.Is(err, no) {
		t.Errorf("resume: %v", err)
	}
	r.ready = nil
	must(t, r.Resume(bg, j.ID))
	r.done(j.ID)
}
