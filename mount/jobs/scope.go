package jobs

import (
	"context"
	"errors"
	"slices"

	"github.com/kmsfs/kmsfs/meta"
)

// batch is how many inodes are looked up at a time.
const batch = 256

// maxDepth bounds how far up a directory is looked for.
const maxDepth = 1 << 16

// each calls fn for every regular file of the job after an inode, in ascending order. A file belongs to it if it lies below its root, by its primary
// name, when its turn comes, and is not newer than the job: its number is not, or one of its keys was drawn before, as happens to files that are made while the job is submitted.
func (u *run) each(ctx context.Context, after meta.Ino, fn func(ctx context.Context, a *meta.Attr) error) error {
	j := &u.job
	for {
		inos, err := u.r.cfg.Meta.InodesAfter(ctx, after, batch)
		if err != nil || len(inos) == 0 {
			return err
		}
		scope := scope{store: u.r.cfg.Meta, root: j.Root, below: map[meta.Ino]bool{}}
		for _, ino := range inos {
			if ino > j.Limit && j.Limit == j.Root { // a file, or a directory with nothing in it
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			a, err := scope.file(ctx, ino)
			if err != nil {
				return err
			}
			meant := a != nil && (ino <= j.Limit || hasKeyFrom(a, j.Made))
			if a != nil && !meant {
				if meant, err = u.otherwise(ctx, a); err != nil {
					return err
				}
			}
			if meant {
				if err := fn(ctx, a); err != nil {
					return err
				}
			}
			after = ino
		}
	}
}

// otherwise tells whether a file is not stored as its zone says: it may have been made while these parameters changed.
func (u *run) otherwise(ctx context.Context, a *meta.Attr) (bool, error) {
	p, err := u.r.cfg.Meta.ZoneParams(ctx, a.Zone)
	if errors.Is(err, meta.ErrNotFound) {
		return false, nil
	}
	return p != a.Params, err
}

// hasKeyFrom tells whether a file has a key that was drawn before t.
func hasKeyFrom(a *meta.Attr, t meta.Time) bool {
	before := t.Sec*1e9 + int64(t.Nsec)
	return slices.ContainsFunc(a.Wraps, func(w meta.Wrap) bool { return w.Made < before })
}

// scope tells what lies below a directory; what it has found out is for a short time.
type scope struct {
	store *meta.Store
	root  meta.Ino
	below map[meta.Ino]bool // directories
}

// file returns the attributes of an inode if it is a regular file of the scope, else nil.
func (s *scope) file(ctx context.Context, ino meta.Ino) (*meta.Attr, error) {
	a, err := s.store.Getattr(ctx, ino)
	switch {
	case errors.Is(err, meta.ErrNotFound), errors.Is(err, meta.ErrAuth), errors.Is(err, meta.ErrCorrupt):
		return nil, nil // gone, or what fsck is for
	case err != nil:
		return nil, err
	case !a.IsRegular():
		return nil, nil
	case ino == s.root, s.root == meta.RootIno:
		return a, nil
	}
	in, err := s.has(ctx, a.Parent)
	if err != nil || !in {
		return nil, err
	}
	return a, nil
}

// has tells whether a directory is the root of the scope, or below it.
func (s *scope) has(ctx context.Context, dir meta.Ino) (in bool, err error) {
	var way []meta.Ino
	for range maxDepth {
		known, ok := s.below[dir]
		if ok {
			in = known
			break
		}
		way = append(way, dir)
		if dir == s.root {
			in = true
			break
		}
		if dir == meta.RootIno || dir == 0 {
			break
		}
		a, err := s.store.Getattr(ctx, dir)
		if errors.Is(err, meta.ErrNotFound) {
			break
		}
		if err != nil {
			return false, err
		}
		dir = a.Parent
	}
	for _, d := range way {
		s.below[d] = in
	}
	return in, nil
}
