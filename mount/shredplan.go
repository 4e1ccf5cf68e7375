package mount

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// shredPlanner finds out what lies at and below an inode, and whether it may be shredded.
type shredPlanner struct {
	v     *Volume
	by    access.Requester
	root  meta.Ino
	plan  ShredPlan
	files []*meta.Attr // and directories, links, nodes
	names map[meta.Ino]uint32
}

func (d *daemon) handleShredPlan(ctx context.Context, call *control.Call) (any, error) {
	var args shredArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	return d.planShred(ctx, call.Peer, meta.Ino(args.Inode))
}

func (d *daemon) planShred(ctx context.Context, p control.Peer, root meta.Ino) (ShredPlan, error) {
	if d.cfg.Options.ReadOnly {
		return ShredPlan{}, fmt.Errorf("%w: the volume is mounted read-only", ErrUsage)
	}
	s := &shredPlanner{v: d.volume, by: access.Requester{UID: uint32(p.UID), GID: uint32(p.GID), PID: uint32(p.PID)}, root: root, names: map[meta.Ino]uint32{}}
	err := s.survey(ctx)
	return s.plan, err
}

// handleShred submits the job, if what is there is what was agreed to.
func (d *daemon) handleShred(ctx context.Context, call *control.Call) (any, error) {
	var args shredArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	plan, err := d.planShred(ctx, call.Peer, meta.Ino(args.Inode))
	if err != nil {
		return nil, err
	}
	if args.Digest != "" && args.Digest != plan.Digest {
		return nil, fmt.Errorf("%w: %s has changed since: there are %d files now; ask again", ErrBusy, plan.Path, plan.Files)
	}
	what := meta.Shred{Path: plan.Path[:min(len(plan.Path), meta.MaxShredPath)], Keys: plan.Keys}
	if _, err := hex.Decode(what.Digest[:], []byte(plan.Digest)); err != nil {
		return nil, err
	}
	st, err := d.jobs.Shred(ctx, meta.Ino(args.Inode), plan.Files, what, uint32(call.Peer.UID), uint32(call.Peer.GID))
	if err != nil {
		return nil, d.refusedJob(ctx, call.Peer, meta.Job{Root: meta.Ino(args.Inode), Kind: meta.JobShred, Shred: &what}, err)
	}
	if err := d.submitted(ctx, call.Peer, st); err != nil {
		return nil, err
	}
	if err := d.volume.syncNames(ctx); err != nil { // what was promised survives a power cut
		return nil, err
	}
	return d.jobStatus(ctx, st), nil
}

// survey finds out what there is, and whether it may be shredded.
func (s *shredPlanner) survey(ctx context.Context) error {
	if s.root == meta.RootIno {
		return fmt.Errorf("%w: the root of a volume is not shredded; delete the volume's keys instead (kmsfs key delete)", ErrUsage)
	}
	a, err := s.v.meta.Getattr(ctx, s.root)
	if err != nil {
		return err
	}
	path, err := s.v.meta.Path(ctx, s.root)
	if err != nil {
		return err
	}
	s.plan.Path = string(path)
	zones, err := s.v.zonesBelow(ctx, s.root)
	if err != nil {
		return err
	}
	for _, id := range append(zones, a.Zone) {
		if err := s.v.guard.Administer(ctx, s.by, id); err != nil {
			return fmt.Errorf("zone %d: %w", id, err)
		}
	}
	if err := s.walk(ctx, a); err != nil {
		return err
	}
	slices.SortFunc(s.files, func(a, b *meta.Attr) int { return cmp.Compare(a.Ino, b.Ino) })
	return s.judge(ctx)
}

// walkBatch is how many entries of a directory are read at a time.
const walkBatch = 256

func (s *shredPlanner) walk(ctx context.Context, a *meta.Attr) error {
	if s.names[a.Ino]++; s.names[a.Ino] == 1 {
		s.files = append(s.files, a)
	}
	if !a.IsDir() {
		return nil
	}
	for cookie := uint64(0); ; {
		list, err := s.v.meta.ReadDirPlus(ctx, a.Ino, cookie, walkBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, e := range list {
			if err := s.walk(ctx, e.Attr); err != nil {
				return err
			}
			cookie = e.Cookie
		}
	}
}

// judge refuses what could not be shredded, and sums up the rest.
func (s *shredPlanner) judge(ctx context.Context) error {
	digest := sha256.New()
	for _, a := range s.files {
		switch {
		case a.IsDir():
			continue
		case s.names[a.Ino] < a.Nlink:
			return advise(fmt.Errorf("%w: %s has %d names, %d of them elsewhere: its key would stay", ErrBusy, s.path(ctx, a.Ino), a.Nlink, a.Nlink-s.names[a.Ino]),
				"remove those names first (find -samefile)")
		case !a.IsRegular():
			continue
		case s.v.content.IsOpen(a.Ino):
			return advise(fmt.Errorf("%w: %s is open: its key is in use", ErrBusy, s.path(ctx, a.Ino)), "end what has it open (fuser)")
		}
		s.plan.Files++
		for _, w := range a.Wraps {
			s.plan.Keys++
			digest.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(a.Ino)), w.Epoch))
			digest.Write(w.Wrapped[:])
			digest.Write([]byte(w.Blob))
		}
	}
	s.plan.Digest = hex.EncodeToString(digest.Sum(nil))
	return nil
}

func (s *shredPlanner) path(ctx context.Context, ino meta.Ino) string { return s.v.pathOr(ctx, ino) }
