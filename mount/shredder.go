package mount

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/jobs"
)

// goneWithin is how long is waited for the kernel to forget what was removed before the job says what it waits for.
const goneWithin = 2 * time.Second

// shredder removes what jobs are about and scrubs the volume's files.
type shredder struct{ d *daemon }

var _ jobs.Shredder = shredder{}

// Remove implements jobs.Shredder.
func (s shredder) Remove(ctx context.Context, j *meta.Job, removed func() error) error {
	h, err := startHelper()
	if err != nil {
		return err
	}
	defer h.close()
	r := &remover{d: s.d, helper: h, removed: removed, before: func(inos []meta.Ino) error { return s.d.volume.meta.Enqueue(ctx, j.ID, inos...) }}
	for { // whoever puts things in again has them removed again
		a, err := s.d.volume.meta.Getattr(ctx, j.Root)
		if errors.Is(err, meta.ErrNotFound) || err == nil && a.Flags.Orphan() {
			return nil
		}
		if err == nil {
			err = r.all(ctx, a)
		}
		if err != nil && !errors.Is(err, meta.ErrNotFound) {
			return err
		}
	}
}

// Scrub implements jobs.Shredder.
func (s shredder) Scrub(ctx context.Context, j *meta.Job) error {
	if err := s.gone(ctx, j.ID); err != nil {
		return err
	}
	v := s.d.volume
	ctx = context.WithoutCancel(ctx)                  // what has begun is finished
	if err := v.content.Checkpoint(ctx); err != nil { // objects go, too
		return err
	}
	if err := v.kv.Scrub(ctx); err != nil {
		return err
	}
	return v.content.Checkpoint(ctx) // and the anchor: what was removed does not come back by an older state
}

// gone empties the queue: each of its inodes is closed, without a name, and forgotten by the kernel, and its keys by the daemon.
func (s shredder) gone(ctx context.Context, id meta.JobID) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(goneWithin)
	for {
		inos, err := s.d.volume.meta.Queue(ctx, id, removeBatch)
		if err != nil || len(inos) == 0 {
			return err
		}
		var over []meta.Ino
		var left *meta.Attr
		for _, ino := range inos {
			a, err := s.d.volume.meta.Getattr(ctx, ino)
			switch {
			case errors.Is(err, meta.ErrNotFound):
				over = append(over, ino)
			case err != nil:
				return err
			default:
				left = a
			}
		}
		s.d.volume.content.ForgetKeys(func(ino meta.Ino) bool { return slices.Contains(over, ino) })
		if err := s.d.volume.meta.Dequeue(ctx, id, over...); err != nil {
			return err
		}
		if left == nil {
			continue
		}
		select {
		case <-tick.C:
		case <-late:
			return s.inUse(ctx, left)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inUse says what keeps an inode.
func (s shredder) inUse(ctx context.Context, a *meta.Attr) error {
	if a.Nlink > 0 {
		return fmt.Errorf("%w: it was given another name, %s: its key stays until that is removed", ErrBusy, s.d.volume.pathOr(ctx, a.Ino))
	}
	return fmt.Errorf("%w: inode %d is open: its key stays until that is closed", ErrBusy, a.Ino)
}

// Receipt implements jobs.Shredder.
func (s shredder) Receipt(ctx context.Context, j *meta.Job) (string, error) {
	e := audit.Event{Class: audit.Admin, Durable: true, Source: audit.Files, Name: audit.Shred, ID: audit.NewID(), Decision: audit.Allow}
	e.Identity = audit.Identity{UID: int(j.UID), GID: int(j.GID)}
	e.Object = audit.Object{Volume: s.d.volume.ID.String(), Inode: uint64(j.Root), Path: j.Shred.Path}
	e.Parameters = map[string]any{"jobId": uint64(j.ID), "files": j.TotalFiles, "dataKeys": j.Shred.Keys, "wrapsSha256": hex.EncodeToString(j.Shred.Digest[:])}
	return e.ID, s.d.volume.audit.Record(ctx, &e)
}

// shredded is what a job has shredded, or is shredding; nil for other jobs.
func (v *Volume) shredded(j *meta.Job) *Shredded {
	if j.Shred == nil {
		return nil
	}
	return &Shredded{ShredPlan: ShredPlan{Path: j.Shred.Path, Files: j.TotalFiles, Keys: j.Shred.Keys, Digest: hex.EncodeToString(j.Shred.Digest[:])},
		Event: j.Shred.Event, Elsewhere: v.copiesElsewhere()}
}

// copiesElsewhere lists what else may hold rows in the volume's directory.
func (v *Volume) copiesElsewhere() (found []string) {
	matches, _ := filepath.Glob(filepath.Join(v.Dir, "meta.damaged*")) // the pattern is good
	for _, path := range matches {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}
