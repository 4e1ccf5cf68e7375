package jobs

import (
	"context"
	"errors"

	"github.com/kmsfs/kmsfs/meta"
)

// moved seals anew what waits in the job's queue: files that were moved into a zone and got a fresh key by that. It ends when the queue is empty.
func (u *run) moved(ctx context.Context) error {
	for {
		inos, err := u.r.cfg.Meta.Queue(ctx, u.id, batch)
		if err != nil {
			return err
		}
		if len(inos) == 0 {
			ended, err := u.r.cfg.Meta.EndQueue(ctx, &u.job)
			if ended || err != nil {
				return err
			}
			continue
		}
		if err := u.expect(ctx, inos); err != nil {
			return err
		}
		for _, ino := range inos {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := u.movedFile(ctx, ino); err != nil {
				return err
			}
		}
	}
}

// expect adds what waits to what there is to do.
func (u *run) expect(ctx context.Context, inos []meta.Ino) error {
	files, bytes := u.job.Files+uint64(len(inos)), u.job.Bytes
	for _, ino := range inos {
		a, err := u.r.cfg.Meta.Getattr(ctx, ino)
		if err == nil {
			bytes += a.Size
		} else if !errors.Is(err, meta.ErrNotFound) && !errors.Is(err, meta.ErrAuth) && !errors.Is(err, meta.ErrCorrupt) {
			return err
		}
	}
	u.change(func(j *meta.Job) { j.TotalFiles, j.TotalBytes = max(j.TotalFiles, files), max(j.TotalBytes, bytes) })
	return nil
}

// movedFile seals one file anew under the key that it has by now, and takes it out of the queue.
func (u *run) movedFile(ctx context.Context, ino meta.Ino) error {
	a, err := u.r.cfg.Meta.Getattr(ctx, ino)
	if err != nil {
		err = u.failed(ctx, ino, err)
	} else {
		u.change(func(j *meta.Job) { j.File, j.Epoch = ino, a.Epoch })
		err = u.reencrypt(ctx, ino, a.Epoch)
	}
	if err != nil {
		return err
	}
	return u.r.cfg.Meta.Dequeue(ctx, u.id, ino)
}
