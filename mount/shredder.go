package mount

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// goneWithin bounds how long is waited for what the caller removes to be gone.
const goneWithin = 10 * time.Minute

// shredder removes every trace of the keys of what lies at and below an inode.
type shredder struct {
	v     *Volume
	by    access.Requester
	root  meta.Ino
	plan  ShredPlan
	files []*meta.Attr // and directories, links, nodes
	names map[meta.Ino]uint32
}

// handleShred says what it is about, waits until the caller, whose rights count, has removed it, and then leaves nothing of it.
func (d *daemon) handleShred(ctx context.Context, call *control.Call) (any, error) {
	var args shredArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	if d.cfg.Options.ReadOnly {
		return nil, fmt.Errorf("%w: the volume is mounted read-only", ErrUsage)
	}
	p := call.Peer
	s := &shredder{v: d.volume, by: access.Requester{UID: uint32(p.UID), GID: uint32(p.GID), PID: uint32(p.PID)}, root: meta.Ino(args.Inode), names: map[meta.Ino]uint32{}}
	if err := s.survey(ctx); err != nil {
		return nil, err
	}
	if err := call.Emit(s.plan); err != nil {
		return nil, err
	}
	if err := s.gone(ctx); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // what has begun is finished
	out := Shredded{ShredPlan: s.plan, Elsewhere: s.elsewhere()}
	err := s.scrub(ctx)
	out.Event, err = s.record(ctx, err)
	return out, err
}

// survey finds out what there is, and whether it may be shredded.
func (s *shredder) survey(ctx context.Context) error {
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

func (s *shredder) walk(ctx context.Context, a *meta.Attr) error {
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
func (s *shredder) judge(ctx context.Context) error {
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

func (s *shredder) path(ctx context.Context, ino meta.Ino) string { return s.v.pathOr(ctx, ino) }

// gone waits until none of the inodes is left: removed, closed, and forgotten by the kernel.
func (s *shredder) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, a := range s.files {
		for {
			_, err := s.v.meta.Getattr(ctx, a.Ino)
			if errors.Is(err, meta.ErrNotFound) {
				break
			}
			if err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%w: inode %d is not gone: %w", ErrBusy, a.Ino, ctx.Err())
			}
		}
	}
	return nil
}

// scrub removes what is left of them in memory and in the volume's files.
func (s *shredder) scrub(ctx context.Context) error {
	s.v.content.ForgetKeys(func(ino meta.Ino) bool { return s.names[ino] > 0 })
	if err := s.v.content.Checkpoint(ctx); err != nil { // objects go, too
		return err
	}
	if err := s.v.kv.Scrub(ctx); err != nil {
		return err
	}
	return s.v.content.Checkpoint(ctx) // and the anchor: what was removed does not come back by an older state
}

// elsewhere lists what else may hold rows in the volume's directory.
func (s *shredder) elsewhere() (found []string) {
	matches, _ := filepath.Glob(filepath.Join(s.v.Dir, "meta.damaged*")) // the pattern is good
	for _, path := range matches {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// record takes the receipt down, or that it failed. It returns the event's id.
func (s *shredder) record(ctx context.Context, outcome error) (string, error) {
	e := audit.Event{Class: audit.Admin, Durable: true, Source: audit.Files, Name: audit.Shred, ID: audit.NewID(), Decision: audit.Allow}
	e.Identity = audit.Identity{UID: int(s.by.UID), GID: int(s.by.GID), PID: int(s.by.PID)}
	e.Object = audit.Object{Volume: s.v.ID.String(), Zone: uint64(s.files[0].Zone), Inode: uint64(s.root), Path: s.plan.Path}
	e.Parameters = map[string]any{"files": s.plan.Files, "dataKeys": s.plan.Keys, "wrapsSha256": s.plan.Digest}
	if outcome != nil {
		e.ErrorCode, e.ErrorMessage = string(ClassOf(outcome)), outcome.Error()
	}
	return e.ID, errors.Join(outcome, s.v.audit.Record(ctx, &e))
}
