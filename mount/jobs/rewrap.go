package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// rewrap gives the job's zones other keys, wraps the keys of their files under them, looks for what is left, and takes the former keys away. Where it was interrupted it goes on: what is wrapped
// under which key is in each file's row.
func (u *run) rewrap(ctx context.Context) error {
	zones, err := u.zones(ctx)
	if err != nil {
		return err
	}
	for _, id := range zones {
		if err := u.r.cfg.Keys.Rotate(ctx, &u.job, id); err != nil && !errors.Is(err, meta.ErrNotFound) { // dissolved
			return fmt.Errorf("another key for zone %d: %w", id, err)
		}
	}
	if err := u.r.cfg.Meta.Quiesce(ctx); err != nil { // nothing is wrapped under a former key from here on
		return err
	}
	if u.job.TotalFiles == 0 {
		files, err := u.r.cfg.Meta.CountFiles(ctx, u.job.Zone)
		if err != nil {
			return err
		}
		u.change(func(j *meta.Job) { j.TotalFiles = files })
	}
	if err := u.rewrapFrom(ctx, u.job.Cursor, true); err != nil {
		return err
	}
	return u.forget(ctx, zones)
}

// zones lists the zones that the job is about.
func (u *run) zones(ctx context.Context) (ids []meta.ZoneID, err error) {
	if u.job.Zone != 0 {
		return []meta.ZoneID{u.job.Zone}, nil
	}
	err = u.r.cfg.Meta.Zones(ctx, func(z *meta.Zone) bool {
		ids = append(ids, z.ID)
		return true
	})
	return ids, err
}

// rewrapFrom wraps the keys of files after an inode anew. With note it is told how far the job is, and what did not open.
func (u *run) rewrapFrom(ctx context.Context, after meta.Ino, note bool) error {
	u.pace.begin()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		step, err := u.r.cfg.Meta.RewrapKeys(ctx, u.job.Zone, after)
		if err != nil {
			return err
		}
		after, more = step.Next, step.More
		u.pace.step(ctx, 0)
		if !note {
			if step.Done+len(step.Bad) > 0 {
				return fmt.Errorf("%d files before inode %d: %w", step.Done+len(step.Bad), after, errLeft)
			}
			continue
		}
		for _, ino := range step.Bad {
			u.r.cfg.Log.Error("key of a file not wrapped anew", "job", u.id, "inode", ino, "cause", step.Cause)
		}
		u.change(func(j *meta.Job) {
			j.Files += uint64(step.Done)
			for _, ino := range step.Bad {
				j.Skip(ino, problem(step.Cause))
			}
			j.Cursor = after
			if step.Cause != nil {
				j.Problem = problem(step.Cause)
			} else if j.Failed == 0 {
				j.Problem = ""
			}
		})
		if time.Since(u.saved) >= saveEvery {
			if err := u.save(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// errLeft: something is still wrapped under a former key.
var errLeft = errors.New("wrapped under the former key of their zone")

// forget takes the former keys away, when another scan finds nothing under them. Otherwise they stay, as what is wrapped under them cannot be had without.
func (u *run) forget(ctx context.Context, zones []meta.ZoneID) error {
	if u.job.Failed > 0 {
		return nil
	}
	if err := u.rewrapFrom(ctx, 0, false); err != nil {
		u.change(func(j *meta.Job) { j.Cursor = 0 })
		return err
	}
	if err := u.r.cfg.Meta.Quiesce(ctx); err != nil { // no transaction has rows in hand from before
		return err
	}
	return u.r.cfg.Keys.Forget(ctx, zones)
}
