package jobs

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// shred removes what the job is about, then what is left of it in the volume's files. Each step can be done again: what is removed is found no more, and the last one is about all that was ever removed.
func (u *run) shred(ctx context.Context) error {
	s := u.r.cfg.Shred
	err := s.Remove(ctx, &u.job, func() error {
		u.change(func(j *meta.Job) { j.Files++ })
		if time.Since(u.saved) < saveEvery {
			return ctx.Err()
		}
		return u.save(ctx)
	})
	if err == nil {
		err = s.Scrub(ctx, &u.job)
	}
	if err != nil {
		return err
	}
	event, err := s.Receipt(ctx, &u.job)
	if err != nil {
		return err
	}
	u.change(func(j *meta.Job) {
		done := *j.Shred
		done.Event = event
		j.Shred, j.Problem = &done, ""
	})
	return nil
}
