package mount

import (
	"context"
	"errors"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
	"github.com/kmsfs/kmsfs/mount/jobs"
)

// jobEvents are the names of what is done to jobs.
var jobEvents = map[string]string{JobPause: audit.PauseJob, JobResume: audit.ResumeJob, JobCancel: audit.CancelJob}

// recordJob takes down what was done to a job by somebody, or, where by is nil, what became of it. The error is that it cannot be recorded.
func (v *Volume) recordJob(ctx context.Context, by *control.Peer, name string, s jobs.Status, outcome error) error {
	log := v.recorder()
	if log == nil {
		return nil
	}
	e := audit.Event{Class: audit.Admin, Source: audit.Files, Name: name, Decision: audit.Allow, Internal: by == nil}
	if by != nil {
		e.Identity = audit.Identity{UID: by.UID, GID: by.GID, PID: by.PID}
	} else {
		e.Identity = audit.Identity{UID: int(s.UID), GID: int(s.GID)}
	}
	e.Object = audit.Object{Volume: v.ID.String(), Inode: uint64(s.Root)}
	if s.Shred != nil {
		e.Path = s.Shred.Path
	} else if path, err := v.meta.Path(ctx, s.Root); err == nil {
		e.Path = string(path)
	}
	e.Parameters = map[string]any{"jobId": uint64(s.ID), "jobKind": jobName(s.Kind)}
	if s.Rate > 0 {
		e.Parameters["rate"] = s.Rate
	}
	if s.CPU > 0 {
		e.Parameters["cpu"] = s.CPU
	}
	if name != audit.SubmitJob {
		e.Response = map[string]any{"state": jobState(s), "files": s.Files, "bytes": s.Bytes, "failed": s.Failed, "milliseconds": s.Millis}
	}
	if outcome != nil {
		e.ErrorCode, e.ErrorMessage = string(ClassOf(outcome)), outcome.Error()
		if errors.Is(outcome, jobs.ErrDenied) {
			e.Decision = audit.Deny
		}
	}
	return log.Record(ctx, &e)
}

// jobEnded is called by the runner.
func (v *Volume) jobEnded(s jobs.Status, cause error) {
	ctx, cancel := awake.WithTimeout(context.Background(), askKeys)
	defer cancel()
	if err := v.recordJob(ctx, nil, audit.EndJob, s, cause); err != nil {
		v.log.Error("the end of a job could not be recorded in the audit log", "job", s.ID, "error", err)
	}
}

// submitted records a job, and takes it back where that cannot be done.
func (d *daemon) submitted(ctx context.Context, by control.Peer, st jobs.Status) error {
	err := d.volume.recordJob(ctx, &by, audit.SubmitJob, st, nil)
	if err != nil {
		err = errors.Join(err, d.jobs.Cancel(context.WithoutCancel(ctx), st.ID))
	}
	return err
}

// refusedJob records that somebody was refused a job.
func (d *daemon) refusedJob(ctx context.Context, by control.Peer, refused meta.Job, outcome error) error {
	if !errors.Is(outcome, jobs.ErrDenied) {
		return outcome
	}
	return errors.Join(outcome, d.volume.recordJob(ctx, &by, audit.SubmitJob, jobs.Status{Job: refused}, outcome))
}
