package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
	"github.com/kmsfs/kmsfs/mount/jobs"
)

// ReencryptConfig says what to seal anew.
type ReencryptConfig struct {
	Target string // directory of a mounted volume, or a file or directory in a mount
	All    bool   // all of the volume that Target lies in
	Rate   uint64 // bytes per second at most; 0: no limit
	CPU    uint8  // percent of the time at most, 1 to 100; 0: no limit
}

// JobStatus is a job as `kmsfs jobs` shows it.
type JobStatus struct {
	Volume     string    `json:"volume"`
	ID         uint64    `json:"id"`    // 0 of a rewrap
	What       string    `json:"what"`  // "reencrypt"; "reencrypt moved": what was moved into a zone; "rewrap", "deep rewrap"
	State      string    `json:"state"` // running, waiting, paused, done, cancelled
	Root       string    `json:"root"`  // path in the volume of what it is about
	UID        uint32    `json:"uid"`   // who submitted it
	Submitted  time.Time `json:"submitted"`
	TotalFiles uint64    `json:"total_files"`
	TotalBytes uint64    `json:"total_bytes"`
	Files      uint64    `json:"files"`
	Bytes      uint64    `json:"bytes"`
	Failed     uint64    `json:"failed"`
	TotalKeys  uint64    `json:"total_keys,omitempty"` // of a rewrap
	Keys       uint64    `json:"keys,omitempty"`
	Seconds    float64   `json:"seconds"` // that it has run
	Speed      float64   `json:"bytes_per_second,omitempty"`
	Left       float64   `json:"seconds_left,omitempty"`
	Rate       uint64    `json:"rate,omitempty"`
	CPU        uint8     `json:"cpu,omitempty"`
	Problem    string    `json:"problem,omitempty"`
	Ended      time.Time `json:"ended,omitzero"`    // of a job that is over
	Skipped    []Skipped `json:"skipped,omitempty"` // the first of the files that could not be done
	Proof      string    `json:"proof,omitempty"`   // the command that proves, of a job that is done
	Shred      *Shredded `json:"shred,omitempty"`   // of a shred
}

// Skipped is a file that a job could not do.
type Skipped struct {
	Inode uint64 `json:"inode"`
	Path  string `json:"path,omitempty"` // by its primary name, while it has one
	Why   string `json:"why"`
}

// Over tells that nothing will happen any more without a command.
func (s JobStatus) Over() bool {
	return s.State == "done" || s.State == "cancelled" || s.State == "paused"
}

// What JobControl takes.
const (
	JobPause  = "pause"
	JobResume = "resume"
	JobCancel = "cancel"
)

type reencryptArgs struct {
	Inode uint64 `json:"inode"`
	Rate  uint64 `json:"rate,omitempty"`
	CPU   uint8  `json:"cpu,omitempty"`
}

type jobArgs struct {
	ID uint64 `json:"id"`
	Do string `json:"do,omitempty"`
}

// Reencrypt has the daemon of a mounted volume seal files anew under fresh keys, as a job in the name of whoever calls.
//
// Errors: ErrUsage, ErrNotMounted, jobs.ErrDenied; ErrReadOnly as a usage error.
func Reencrypt(ctx context.Context, cfg ReencryptConfig) (st JobStatus, err error) {
	args := reencryptArgs{Inode: uint64(meta.RootIno), Rate: cfg.Rate, CPU: cfg.CPU}
	rec, st0, err := findTarget(cfg.Target)
	if err != nil {
		return st, err
	}
	if st0 != nil && !cfg.All {
		args.Inode = st0.Ino
		if typ := st0.Mode & unix.S_IFMT; typ != unix.S_IFDIR && typ != unix.S_IFREG {
			return st, fmt.Errorf("%w: %s is neither a file nor a directory", ErrUsage, cfg.Target)
		}
	}
	r, err := openRuntime()
	if err != nil {
		return st, err
	}
	err = control.Do(ctx, r.socket(rec.ID), opReencrypt, args, nil, &st)
	return st, err
}

// findTarget finds the daemon for a path: the volume's own directory (st is nil), or something in its mount.
func findTarget(target string) (rec record, st *unix.Stat_t, err error) {
	r, err := openRuntime()
	if err != nil {
		return rec, nil, err
	}
	if _, err := mountedAt(target); err != nil {
		if rec, ok := r.serving(target); ok {
			return rec, nil, nil
		}
	}
	st = new(unix.Stat_t)
	if err := unix.Lstat(target, st); err != nil {
		return rec, nil, fmt.Errorf("%s: %w", target, err)
	}
	rec, err = r.holding(st)
	if errors.Is(err, ErrNotMounted) {
		err = advise(fmt.Errorf("%w: %s", ErrNotMounted, target), "mount the volume first")
	}
	return rec, st, err
}

// Jobs returns the jobs of this user's mounts, or of the one that target (if not empty) names or lies in, oldest first.
func Jobs(ctx context.Context, target string) ([]JobStatus, error) {
	r, err := openRuntime()
	if err != nil {
		return nil, err
	}
	records, err := r.records()
	if target != "" {
		var rec record
		rec, _, err = findTarget(target)
		records = []record{rec}
	}
	if err != nil {
		return nil, err
	}
	all := []JobStatus{}
	for _, rec := range records {
		var some []JobStatus
		if err := control.Do(ctx, r.socket(rec.ID), opJobs, struct{}{}, nil, &some); err != nil {
			if target == "" { // a dead mount has no jobs to show
				continue
			}
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// JobControl pauses, resumes or cancels a job of the volume that target names or lies in.
func JobControl(ctx context.Context, target string, id uint64, do string) error {
	rec, _, err := findTarget(target)
	if err != nil {
		return err
	}
	r, err := openRuntime()
	if err != nil {
		return err
	}
	return control.Do(ctx, r.socket(rec.ID), opJob, jobArgs{ID: id, Do: do}, nil, nil)
}

// JobWait returns when a job is over or paused, and calls report with its progress meanwhile.
func JobWait(ctx context.Context, target string, id uint64, report func(JobStatus) error) (last JobStatus, err error) {
	rec, _, err := findTarget(target)
	if err != nil {
		return last, err
	}
	r, err := openRuntime()
	if err != nil {
		return last, err
	}
	err = control.Do(ctx, r.socket(rec.ID), opJobWait, jobArgs{ID: id}, func(event json.RawMessage) error {
		if err := json.Unmarshal(event, &last); err != nil {
			return fmt.Errorf("%w: %v", control.ErrProtocol, err)
		}
		return report(last)
	}, &last)
	return last, err
}

func (d *daemon) handleReencrypt(ctx context.Context, call *control.Call) (any, error) {
	var args reencryptArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	return d.submitReencrypt(ctx, call.Peer, args)
}

// submitReencrypt submits a job in the name of a peer.
func (d *daemon) submitReencrypt(ctx context.Context, peer control.Peer, args reencryptArgs) (*JobStatus, error) {
	if args.CPU > 100 || args.Inode == 0 {
		return nil, fmt.Errorf("%w: a share of %d percent", ErrUsage, args.CPU)
	}
	st, err := d.jobs.Reencrypt(ctx, meta.Ino(args.Inode), uint32(peer.UID), uint32(peer.GID), args.Rate, args.CPU)
	if err != nil {
		return nil, d.refusedJob(ctx, peer, meta.Job{Root: meta.Ino(args.Inode), Kind: meta.JobReencrypt}, err)
	}
	if err := d.submitted(ctx, peer, st); err != nil {
		return nil, err
	}
	if err := d.volume.syncNames(ctx); err != nil { // what was promised survives a power cut
		return nil, err
	}
	job := d.jobStatus(ctx, st)
	return &job, nil
}

func (d *daemon) handleJobs(ctx context.Context, _ *control.Call) (any, error) {
	list, err := d.jobs.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]JobStatus, len(list))
	for i, st := range list {
		all[i] = d.jobStatus(ctx, st)
	}
	if st, ok := d.volume.wraps.running(); ok {
		all = append(all, d.rewrapStatus(ctx, st))
	}
	return all, nil
}

// rewrapStatus shows a rewrap among the jobs. It has no number: who started it waits for it, and ends it by ending.
func (d *daemon) rewrapStatus(ctx context.Context, s rewrapState) JobStatus {
	return JobStatus{
		Volume: d.volume.Dir, What: "rewrap", State: "running", Root: d.volume.pathOr(ctx, meta.Ino(max(s.inode, uint64(meta.RootIno)))), UID: uint32(s.by.UID),
		Submitted: s.began, TotalKeys: s.total, Keys: s.done, Seconds: time.Since(s.began).Seconds(),
	}
}

func (d *daemon) handleJob(ctx context.Context, call *control.Call) (any, error) {
	var args jobArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	id := meta.JobID(args.ID)
	do := map[string]func(context.Context, meta.JobID) error{JobPause: d.jobs.Pause, JobResume: d.jobs.Resume, JobCancel: d.jobs.Cancel}[args.Do]
	if do == nil {
		return nil, fmt.Errorf("%w: jobs %s", ErrUsage, args.Do)
	}
	if _, _, err := d.jobs.Get(ctx, id); err != nil {
		return nil, err
	}
	err := do(ctx, id)
	st, _, gerr := d.jobs.Get(ctx, id)
	if gerr != nil {
		return nil, errors.Join(err, gerr)
	}
	return struct{}{}, errors.Join(err, d.volume.recordJob(ctx, &call.Peer, jobEvents[args.Do], st, err))
}

// progressEvery is how often progress is told to who waits for a job.
const progressEvery = 500 * time.Millisecond

func (d *daemon) handleJobWait(ctx context.Context, call *control.Call) (any, error) {
	var args jobArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		st, changed, err := d.jobs.Get(ctx, meta.JobID(args.ID))
		if err != nil {
			return nil, err
		}
		now := d.jobStatus(ctx, st)
		if now.Over() {
			return now, nil
		}
		if err := call.Emit(now); err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// jobName is what a kind of job is called.
func jobName(kind meta.JobKind) string {
	return map[meta.JobKind]string{meta.JobReencrypt: "reencrypt", meta.JobMoved: "reencrypt moved", meta.JobRewrap: "deep rewrap", meta.JobShred: "shred"}[kind]
}

func jobState(s jobs.Status) string {
	switch {
	case s.State == meta.JobPaused:
		return "paused"
	case s.State == meta.JobDone:
		return "done"
	case s.State == meta.JobCancelled:
		return "cancelled"
	case s.Working:
		return "running"
	}
	return "waiting"
}

// jobStatus says about a job what people want to know.
func (d *daemon) jobStatus(ctx context.Context, s jobs.Status) JobStatus {
	st := JobStatus{
		Volume: d.volume.Dir, ID: uint64(s.ID), What: jobName(s.Kind), State: jobState(s), UID: s.UID, Submitted: s.Made.Time(), TotalFiles: s.TotalFiles, TotalBytes: s.TotalBytes,
		Files: s.Files, Bytes: s.Bytes, Failed: s.Failed, Seconds: float64(s.Millis) / 1000, Speed: s.Speed, Rate: s.Rate, CPU: s.CPU, Problem: s.Problem,
	}
	if s.Speed > 0 && s.TotalBytes > s.Bytes {
		st.Left = float64(s.TotalBytes-s.Bytes) / s.Speed
	}
	st.Root, st.Shred = d.volume.pathOfJob(ctx, &s.Job), d.volume.shredded(&s.Job)
	for _, f := range s.Skipped {
		one := Skipped{Inode: uint64(f.Ino), Why: f.Why}
		if path, err := d.volume.meta.Path(ctx, f.Ino); err == nil {
			one.Path = string(path)
		}
		st.Skipped = append(st.Skipped, one)
	}
	if s.State.Ended() {
		st.Ended = s.Changed.Time()
	}
	if s.State == meta.JobDone && s.Kind == meta.JobReencrypt {
		st.Proof = fmt.Sprintf("kmsfs census --before %s %s", st.Submitted.Format(time.RFC3339Nano), d.server.MountPoint()+"/"+strings.TrimPrefix(st.Root, "/"))
	}
	if s.State == meta.JobDone && s.Kind == meta.JobRewrap {
		st.Proof = fmt.Sprintf("kmsfs census --wrapped-before %s %s", st.Submitted.Format(time.RFC3339Nano), d.server.MountPoint()+"/"+strings.TrimPrefix(st.Root, "/"))
	}
	return st
}

// pathOfJob is the path of what a job is about; what is shredded has none in the end.
func (v *Volume) pathOfJob(ctx context.Context, j *meta.Job) string {
	if j.Shred != nil {
		return j.Shred.Path
	}
	return v.pathOr(ctx, j.Root)
}

// pathOr is the path of an inode in the volume, or its number.
func (v *Volume) pathOr(ctx context.Context, ino meta.Ino) string {
	if path, err := v.meta.Path(ctx, ino); err == nil {
		return string(path)
	}
	return fmt.Sprintf("inode %d", ino)
}

// allowJob decides whether who submitted a job may have it done: the keys of the zones that it touches must open for them.
func (v *Volume) allowJob(ctx context.Context, j *meta.Job) error {
	by := keymgr.Caller{UID: int(j.UID), GID: int(j.GID), Via: keymgr.ViaFileDaemon}
	a, err := v.meta.Getattr(ctx, j.Root)
	if j.Kind == meta.JobShred && errors.Is(err, meta.ErrNotFound) { // removed: what is left is done for everybody
		return nil
	}
	if err != nil {
		return err
	}
	var zones []meta.ZoneID
	if j.Kind == meta.JobReencrypt || j.Kind == meta.JobShred || j.Kind == meta.JobRewrap && j.Zone == 0 { // others are about one zone
		if zones, err = v.zonesBelow(ctx, j.Root); err != nil {
			return err
		}
	}
	for _, id := range append(zones, a.Zone) { // the last one twice, perhaps
		z, err := v.meta.Zone(ctx, id)
		if errors.Is(err, meta.ErrNotFound) { // dissolved meanwhile
			continue
		}
		if err == nil && (j.Kind != meta.JobMoved || z.HasPolicy()) { // where there is none permissions decide, and did when it was moved
			err = v.opensFor(ctx, by, z)
		}
		if err != nil {
			return fmt.Errorf("zone %d: %w", id, err)
		}
	}
	return nil
}

// opensFor asks the key manager whether a zone's key opens for somebody. jobs.ErrDenied if none of its wraps does.
func (v *Volume) opensFor(ctx context.Context, by keymgr.Caller, z *meta.Zone) error {
	parent, name, err := v.meta.ZonePlace(ctx, z)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range z.Wraps {
		out, err := v.keys.Decrypt(ctx, by, keymgr.DecryptInput{Blob: w.Blob, Context: keymgr.Context(meta.ZoneContext(v.ID, z.ID, parent, name))})
		clear(out.Plaintext)
		if err == nil {
			return nil
		}
		if errors.Is(err, keymgr.ErrKeyUnavailable) || errors.Is(err, keymgr.ErrLocked) {
			return err // it may pass
		}
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if ClassOf(err) == ClassKeyRefused {
		return fmt.Errorf("%w: %w", jobs.ErrDenied, err)
	}
	return err
}

// inNameOf is ctx in the name of who submitted a job.
func inNameOf(ctx context.Context, j *meta.Job) context.Context {
	return keymgr.WithCaller(ctx, keymgr.Caller{UID: int(j.UID), GID: int(j.GID), Via: keymgr.ViaFileDaemon})
}
