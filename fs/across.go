package fs

import (
	"context"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// crossing is a rename of something that is no directory from one zone into another.
type crossing struct {
	fs       *FS
	in       *fuse.InHeader
	from, to place
	flags    meta.RenameFlags
	here     meta.ZoneID
	there    meta.ZoneID
	node     *meta.Attr // what is moved
}

// crosses returns the crossing that a rename is, nil if it is none. What is wrong with names and directories is for the rename to find.
func (fs *FS) crosses(ctx context.Context, in *fuse.InHeader, from, to place, flags meta.RenameFlags) (*crossing, error) {
	here, err := fs.meta.Getattr(ctx, from.dir)
	if err != nil {
		return nil, err
	}
	there, err := fs.meta.Getattr(ctx, to.dir)
	if err != nil || here.Zone == there.Zone {
		return nil, err
	}
	a, err := fs.meta.Lookup(ctx, from.dir, from.name)
	if err != nil || a.IsDir() {
		return nil, nil
	}
	return &crossing{fs, in, from, to, flags, here.Zone, there.Zone, a}, nil
}

// run decides and moves. What cannot be moved as it is, or by who asks, is meta.ErrCrossZone: EXDEV, upon which mv copies.
func (c *crossing) run(ctx *requestContext) (res meta.RenameResult, err error) {
	if err := c.fs.meta.MayCross(ctx, c.node, c.there); err != nil {
		return res, err
	}
	if err := c.may(ctx); err != nil {
		return res, err
	}
	if c.node.IsRegular() {
		if err := c.fs.space.admit(ctx); err != nil { // sealing it anew writes all of it
			return res, err
		}
	}
	if err := c.fs.syncBeforeReplace(ctx, c.from, c.to); err != nil {
		return res, err
	}
	r := c.fs.removal()
	defer r.done()
	move := func() (*meta.Attr, error) {
		by := meta.Crossing{Ino: c.node.Ino, By: meta.Owner{UID: c.in.Uid, GID: c.in.Gid}}
		res, err = c.fs.meta.MoveAcross(ctx, by, c.from.dir, c.from.name, c.to.dir, c.to.name, c.flags, r.busy)
		return res.Moved, err
	}
	if c.node.IsRegular() {
		err = c.fs.content.Carry(ctx, c.node.Ino, move)
	} else {
		_, err = move()
	}
	if err == nil && res.Queued != 0 && c.fs.queued != nil {
		c.fs.queued()
	}
	return res, err
}

// may decides the move, and the removal of what it replaces.
func (c *crossing) may(ctx context.Context) error {
	if !c.fs.deciding() {
		return nil
	}
	from := access.Target{Zone: c.here, Ino: c.node.Ino, Dir: c.from.dir, Name: c.from.name}
	to := access.Target{Zone: c.there, Dir: c.to.dir, Name: c.to.name}
	if err := c.fs.access.Carry(ctx, requester(c.in), from, to); err != nil {
		return err
	}
	if c.flags&meta.RenameNoReplace != 0 {
		return nil
	}
	if _, err := c.fs.meta.Lookup(ctx, c.to.dir, c.to.name); err == nil {
		return c.fs.mayName(ctx, c.in, access.Delete, c.to.dir, string(c.to.name))
	}
	return nil
}

// crossTries bounds how often a move is begun anew because something else came under the old name meanwhile.
const crossTries = 5

func (fs *FS) renameAcross(ctx *requestContext, in *fuse.InHeader, from, to place, flags meta.RenameFlags) (res meta.RenameResult, done bool, err error) {
	if flags&^meta.RenameNoReplace != 0 {
		return res, false, nil
	}
	for range crossTries {
		c, err := fs.crosses(ctx, in, from, to, flags)
		if c == nil {
			return res, false, err
		}
		res, err = c.run(ctx)
		if !errors.Is(err, meta.ErrStale) {
			return res, true, err
		}
	}
	return res, true, meta.ErrCrossZone
}
