package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

var (
	// ErrDenied: the submitter may not have the job done, or not any more.
	ErrDenied = errors.New("jobs: denied")
	// ErrNoJob: there is no job of that number.
	ErrNoJob = errors.New("jobs: no such job")
	// ErrEnded: the job is over.
	ErrEnded = errors.New("jobs: over")
)

// keepEnded is how many jobs that are over stay in the list.
const keepEnded = 32

// Bounds of how long a job waits after a failure that may pass: a full disk, a key manager that is away.
const (
	minRetry = time.Second
	maxRetry = 30 * time.Second
)

// Content seals files anew: content.Engine.
type Content interface {
	NewEpoch(ctx context.Context, ino meta.Ino) (epoch uint32, err error)
	Reencrypt(ctx context.Context, ino meta.Ino, epoch uint32, most func() int, done func(bytes int) error) error
}

// ZoneKeys gives zones other keys.
type ZoneKeys interface {
	// Rotate gives the zone another key beside the one it has, unless it has two already, or one that was drawn since the job was submitted. On return everything that
	// begins uses the present one.
	Rotate(ctx context.Context, j *meta.Job, zone meta.ZoneID) error
	// Forget takes the former keys of zones away, under which nothing is wrapped any more.
	Forget(ctx context.Context, zones []meta.ZoneID) error
}

// Shredder removes files, and every copy of their keys in the volume's files.
type Shredder interface {
	// Remove removes the job's root and all below, puts each file into the job's queue before, and tells of it afterwards. Nothing is there: nil. Errors: ErrDenied; others may pass.
	Remove(ctx context.Context, j *meta.Job, removed func() error) error
	// Scrub leaves nothing of what is in the queue, and empties it: an error, which may pass, if some of it is in use yet.
	Scrub(ctx context.Context, j *meta.Job) error
	// Receipt records what was shredded and returns the record's id.
	Receipt(ctx context.Context, j *meta.Job) (event string, err error)
}

// Config is what New needs; all but Log.
type Config struct {
	Meta    *meta.Store
	Content Content
	Keys    ZoneKeys
	Shred   Shredder
	// Allow returns ErrDenied, with the reason, if the submitter may not have the job done; other errors may pass.
	Allow func(ctx context.Context, j *meta.Job) error
	Log   *slog.Logger // nil: silent

	// Ready returns what stands against a job, asked at submission and on resume, before Allow. nil: nothing does.
	Ready func(ctx context.Context, j *meta.Job) error
	// As is ctx in the name of the submitter, for keys of files that are asked for one by one. nil: the daemon asks in its own name.
	As func(ctx context.Context, j *meta.Job) context.Context
	// Ended is told of a job that is done (cause is nil), or that was paused because of ErrDenied. It is called with the Runner's lock held and must not call it. nil: nobody is told.
	Ended func(st Status, cause error)
	// Clock is what rates and shares of time are measured by; nil: the machine's.
	Clock Clock
}

// Status is a job as it is now.
type Status struct {
	meta.Job
	Working bool    // it is being worked on
	Speed   float64 // bytes per second since the daemon took it up; 0 if not known
}

// Runner is the jobs of one volume.
type Runner struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	current *run          // guarded by mu; nil: none is worked on
	changed chan struct{} // guarded by mu; closed at the next change
}

// New returns a Runner. Run does the work.
func New(cfg Config) *Runner {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = realClock{}
	}
	if cfg.Ready == nil {
		cfg.Ready = func(context.Context, *meta.Job) error { return nil }
	}
	return &Runner{cfg: cfg, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Wake has the runner look for jobs that were submitted in the transactions of others: files that were moved into another zone.
func (r *Runner) Wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify()
}

// notify tells that something changed. Called with mu held.
func (r *Runner) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Reencrypt submits a job: files at root, which is a file or a directory, are sealed anew. uid and gid are who asks. rate is in bytes per second, cpu
// in percent; 0 is no limit.
//
// Errors: meta.ErrNotFound, meta.ErrInvalid (no file and no directory), ErrDenied.
func (r *Runner) Reencrypt(ctx context.Context, root meta.Ino, uid, gid uint32, rate uint64, cpu uint8) (Status, error) {
	j := &meta.Job{Kind: meta.JobReencrypt, State: meta.JobRunning, UID: uid, GID: gid, Root: root, Rate: rate, CPU: cpu}
	a, err := r.cfg.Meta.Getattr(ctx, root)
	switch {
	case err != nil:
		return Status{}, err
	case a.IsRegular():
		j.Cursor, j.Limit = root-1, root
	case !a.IsDir():
		return Status{}, fmt.Errorf("inode %d is neither a file nor a directory: %w", root, meta.ErrInvalid)
	default:
		if j.Limit, err = r.cfg.Meta.Newest(ctx); err != nil {
			return Status{}, err
		}
	}
	return r.submit(ctx, j)
}

// Rewrap submits a job: the zone, or all zones for 0, get other keys, and the keys of all their files are wrapped under these. No data is touched. root is the directory that it is
// about, for people. Others as Reencrypt.
func (r *Runner) Rewrap(ctx context.Context, root meta.Ino, zone meta.ZoneID, uid, gid uint32, cpu uint8) (Status, error) {
	return r.submit(ctx, &meta.Job{Kind: meta.JobRewrap, State: meta.JobRunning, UID: uid, GID: gid, Root: root, Zone: zone, CPU: cpu})
}

// Shred submits a job: root and all below is removed, and all copies of its keys in the volume's files. files is how many there are, and what goes into the receipt. Others as Reencrypt.
func (r *Runner) Shred(ctx context.Context, root meta.Ino, files uint64, what meta.Shred, uid, gid uint32) (Status, error) {
	return r.submit(ctx, &meta.Job{Kind: meta.JobShred, State: meta.JobRunning, UID: uid, GID: gid, Root: root, TotalFiles: files, Shred: &what})
}

// submit adds a job.
func (r *Runner) submit(ctx context.Context, j *meta.Job) (Status, error) {
	if err := r.allow(ctx, j); err != nil {
		return Status{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all, err := r.cfg.Meta.Jobs(ctx)
	if err != nil {
		return Status{}, err
	}
	if err := r.forget(ctx, all); err != nil {
		return Status{}, err
	}
	if err := r.cfg.Meta.AddJob(ctx, j); err != nil {
		return Status{}, err
	}
	r.notify()
	return Status{Job: *j}, nil
}

// allow says whether a job may begin.
func (r *Runner) allow(ctx context.Context, j *meta.Job) error {
	if err := r.cfg.Ready(ctx, j); err != nil {
		return err
	}
	return r.cfg.Allow(ctx, j)
}

// forget deletes the oldest jobs that are over, if there are many.
func (r *Runner) forget(ctx context.Context, all []*meta.Job) error {
	var ended []meta.JobID
	for _, j := range all {
		if j.State.Ended() {
			ended = append(ended, j.ID)
		}
	}
	for len(ended) > keepEnded {
		if err := r.cfg.Meta.DeleteJob(ctx, ended[0]); err != nil {
			return err
		}
		ended = ended[1:]
	}
	return nil
}

// List returns all jobs, those that are over included, oldest first.
func (r *Runner) List(ctx context.Context) ([]Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, err := r.cfg.Meta.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Status, len(all))
	for i, j := range all {
		list[i] = Status{Job: *j}
		if r.current != nil && r.current.id == j.ID {
			list[i] = r.current.status()
		}
	}
	return list, nil
}

// Get returns one job and a channel that is closed when any job has changed state. ErrNoJob.
func (r *Runner) Get(ctx context.Context, id meta.JobID) (Status, <-chan struct{}, error) {
	r.mu.Lock()
	changed := r.changed
	r.mu.Unlock()
	all, err := r.List(ctx)
	if err != nil {
		return Status{}, nil, err
	}
	for _, st := range all {
		if st.ID == id {
			return st, changed, nil
		}
	}
	return Status{}, nil, fmt.Errorf("job %d: %w", id, ErrNoJob)
}

// Pause, Resume and Cancel change the state of a job; the first and the last return when it is not worked on any more. What a cancelled job has done
// stays done. Errors: ErrNoJob, ErrEnded; of Resume ErrDenied.
func (r *Runner) Pause(ctx context.Context, id meta.JobID) error {
	return r.set(ctx, id, meta.JobPaused)
}
func (r *Runner) Resume(ctx context.Context, id meta.JobID) error {
	return r.set(ctx, id, meta.JobRunning)
}
func (r *Runner) Cancel(ctx context.Context, id meta.JobID) error {
	return r.set(ctx, id, meta.JobCancelled)
}

func (r *Runner) set(ctx context.Context, id meta.JobID, state meta.JobState) error {
	st, _, err := r.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case st.State.Ended():
		return fmt.Errorf("job %d: %w", id, ErrEnded)
	case state == st.State:
		return nil
	}
	if state == meta.JobRunning {
		if err := r.allow(ctx, &st.Job); err != nil {
			return err
		}
	}
	for {
		over, err := r.setNow(ctx, id, state)
		if over == nil || err != nil {
			return err
		}
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// setNow changes the row of a job that is not worked on. Otherwise it stops the work, and returns what is closed when that is so.
func (r *Runner) setNow(ctx context.Context, id meta.JobID, state meta.JobState) (over <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.id == id {
		r.current.want = state
		r.current.stop()
		return r.current.over, nil
	}
	all, err := r.cfg.Meta.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if j.ID != id {
			continue
		}
		switch {
		case j.State == state:
			return nil, nil
		case j.State.Ended():
			return nil, fmt.Errorf("job %d: %w", id, ErrEnded)
		}
		j.State = state
		j.Problem = ""
		err := r.cfg.Meta.PutJob(ctx, j)
		r.notify()
		return nil, err
	}
	return nil, fmt.Errorf("job %d: %w", id, ErrNoJob)
}
