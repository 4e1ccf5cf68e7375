package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// saveEvery is how often what a job has done is written to its row.
const saveEvery = time.Second

// largeFile is from what size on it is written before a file is begun, so that an interruption in it does not begin it anew.
const largeFile = 8 << 20

// run is one job being worked on. Only its own goroutine changes job; others read it with mu held.
type run struct {
	r        *Runner
	id       meta.JobID
	stop     context.CancelFunc
	stopping context.Context // done when stop was called
	want     meta.JobState   // guarded by r.mu; what it is to be when it was stopped
	over     chan struct{}   // closed when it is not worked on any more
	pace     pace

	began time.Time
	saved time.Time
	bytes uint64 // done since began

	mu  sync.Mutex
	job meta.Job // guarded by mu
}

func (u *run) status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := Status{Job: u.job, Working: true}
	if d := time.Since(u.began).Seconds(); d > 0.1 {
		st.Speed = float64(u.bytes) / d
	}
	return st
}

// change changes the job in memory.
func (u *run) change(fn func(j *meta.Job)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fn(&u.job)
}

// save writes the row.
func (u *run) save(ctx context.Context) error {
	now := time.Now()
	u.change(func(j *meta.Job) { j.Millis += uint64(now.Sub(u.saved).Milliseconds()) })
	u.saved = now
	u.mu.Lock()
	j := u.job
	u.mu.Unlock()
	return u.r.cfg.Meta.PutJob(ctx, &j)
}

// Run works on the jobs of the volume, oldest first, until ctx is done.
func (r *Runner) Run(ctx context.Context) {
	retry := minRetry
	for ctx.Err() == nil {
		u, err := r.begin(ctx)
		if err == nil && u != nil {
			err = r.end(ctx, u, u.work(u.ctx(ctx)))
		}
		switch {
		case err != nil: // try again, or another
			r.wait(ctx, retry)
			retry = min(2*retry, maxRetry)
		case u == nil:
			r.wait(ctx, 0)
			retry = minRetry
		default:
			retry = minRetry
		}
	}
}

// wait returns when something changed, or after d if that is not 0.
func (r *Runner) wait(ctx context.Context, d time.Duration) {
	var after <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-ctx.Done():
	case <-r.wake:
	case <-after:
	}
}

// begin takes up the oldest job that is to run, nil if there is none.
func (r *Runner) begin(ctx context.Context) (*run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, err := r.cfg.Meta.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if j.State == meta.JobRunning {
			now := time.Now()
			u := &run{r: r, id: j.ID, job: *j, over: make(chan struct{}), began: now, saved: now, pace: newPace(r.cfg.Clock, j.Rate, j.CPU)}
			u.stopping, u.stop = context.WithCancel(context.Background())
			r.current = u
			return u, nil
		}
	}
	return nil, nil
}

// end writes what became of a job. The error, if there is one, may pass.
func (r *Runner) end(ctx context.Context, u *run, err error) error {
	stopped := u.stopping.Err() != nil
	defer u.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	u.change(func(j *meta.Job) {
		switch {
		case err == nil:
			j.State = meta.JobDone
		case errors.Is(err, ErrDenied):
			j.State, j.Problem = meta.JobPaused, problem(err)
		case stopped:
			j.State, j.Problem = u.want, ""
		case ctx.Err() == nil:
			j.Problem = problem(err)
		}
	})
	saveErr := u.save(context.WithoutCancel(ctx))
	st := u.status()
	r.current = nil
	close(u.over)
	r.notify()
	if err == nil || errors.Is(err, ErrDenied) {
		if r.cfg.Ended != nil {
			r.cfg.Ended(st, err)
		}
		r.cfg.Log.Info("job", "id", u.id, "state", st.State, "files", st.Files, "bytes", st.Bytes, "failed", st.Failed, "problem", st.Problem)
		err = nil
	}
	if stopped || ctx.Err() != nil {
		err = nil
	}
	if err != nil {
		r.cfg.Log.Warn("a job waits", "id", u.id, "cause", err)
		<-r.wake // the change above is no reason to try again at once
	}
	return errors.Join(err, saveErr)
}

func problem(err error) string {
	s := err.Error()
	return s[:min(len(s), meta.MaxProblem)]
}

// ctx returns a context that ends with parent, and when the job is stopped.
func (u *run) ctx(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	context.AfterFunc(u.stopping, cancel)
	return ctx
}

// work does what is left of the job.
func (u *run) work(ctx context.Context) error {
	if err := u.r.cfg.Allow(ctx, &u.job); err != nil {
		return err
	}
	if u.r.cfg.As != nil {
		ctx = u.r.cfg.As(ctx, &u.job)
	}
	switch u.job.Kind {
	case meta.JobMoved:
		return u.moved(ctx)
	case meta.JobRewrap:
		return u.rewrap(ctx)
	case meta.JobShred:
		return u.shred(ctx)
	}
	if u.job.TotalFiles == 0 {
		if err := u.count(ctx); err != nil {
			return err
		}
	}
	if u.job.File != 0 {
		if err := u.reencrypt(ctx, u.job.File, u.job.Epoch); err != nil {
			return err
		}
	}
	return u.each(ctx, u.job.Cursor, u.file)
}

// count finds out how much there is to do.
func (u *run) count(ctx context.Context) error {
	var files, bytes uint64
	err := u.each(ctx, u.job.Cursor, func(_ context.Context, a *meta.Attr) error {
		files, bytes = files+1, bytes+a.Size
		return nil
	})
	u.change(func(j *meta.Job) { j.TotalFiles, j.TotalBytes = files, bytes })
	return err
}

// file seals one file anew.
func (u *run) file(ctx context.Context, a *meta.Attr) error {
	epoch, err := u.r.cfg.Content.NewEpoch(ctx, a.Ino)
	if errors.Is(err, meta.ErrInvalid) { // it has as many keys as it may have: those have to go first
		epoch, err = a.Epoch, nil
	}
	if err != nil {
		return u.failed(ctx, a.Ino, err)
	}
	u.change(func(j *meta.Job) { j.Cursor, j.File, j.Epoch = a.Ino-1, a.Ino, epoch })
	if a.Size >= largeFile {
		if err := u.save(ctx); err != nil {
			return err
		}
	}
	return u.reencrypt(ctx, a.Ino, epoch)
}

func (u *run) reencrypt(ctx context.Context, ino meta.Ino, epoch uint32) error {
	u.pace.begin()
	err := u.r.cfg.Content.Reencrypt(ctx, ino, epoch, u.pace.most, func(n int) error {
		u.change(func(j *meta.Job) {
			j.Bytes += uint64(n)
			u.bytes += uint64(n)
		})
		u.pace.step(ctx, n)
		return ctx.Err()
	})
	if err != nil {
		return u.failed(ctx, ino, err)
	}
	u.change(func(j *meta.Job) { j.Files++ })
	return u.passed(ctx, ino)
}

// failed goes on behind a file that is gone, or damaged, which is reported. Other errors stop the work.
func (u *run) failed(ctx context.Context, ino meta.Ino, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, meta.ErrNotFound):
	case errors.Is(err, meta.ErrAuth), errors.Is(err, meta.ErrCorrupt):
		u.r.cfg.Log.Error("file not sealed anew", "job", u.id, "cause", err)
		u.change(func(j *meta.Job) {
			j.Problem = problem(err)
			j.Skip(ino, j.Problem)
		})
	default:
		return err
	}
	return u.passed(ctx, ino)
}

// passed notes that nothing is left to do with a file.
func (u *run) passed(ctx context.Context, ino meta.Ino) error {
	u.change(func(j *meta.Job) {
		j.File, j.Epoch = 0, 0
		j.Cursor = max(j.Cursor, ino)
		if j.Failed == 0 {
			j.Problem = ""
		}
	})
	if time.Since(u.saved) < saveEvery {
		return nil
	}
	return u.save(ctx)
}
