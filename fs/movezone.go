package fs

import (
	"context"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// ZoneMover returns the zone with the wraps of its keys made for another place of its directory: they are bound to it. The key manager does it, by the caller's rights.
type ZoneMover func(ctx context.Context, by access.Requester, zone *meta.Zone, parent meta.Ino, name []byte) (*meta.Zone, error)

// moveTries bounds how often a zone's move is begun anew because its wraps were changed meanwhile.
const moveTries = 5

// movedZone returns the zone whose own directory is at from; nil if it is anything else.
func (fs *FS) movedZone(ctx context.Context, from place) (*meta.Zone, error) {
	if fs.moveZone == nil {
		return nil, nil
	}
	dir, err := fs.meta.Getattr(ctx, from.dir)
	if err != nil {
		return nil, err
	}
	a, err := fs.meta.Lookup(ctx, from.dir, from.name)
	if err != nil || !a.IsDir() || a.Zone == dir.Zone {
		return nil, nil // other errors are the rename's to find
	}
	return fs.meta.Zone(ctx, a.Zone)
}

// renameZone renames the directory of a zone, also into another zone.
func (fs *FS) renameZone(ctx context.Context, in *fuse.InHeader, z *meta.Zone, from, to place, flags meta.RenameFlags, busy func(meta.Ino) bool) (res meta.RenameResult, err error) {
	for range moveTries {
		var moved *meta.Zone
		if moved, err = fs.moveZone(ctx, requester(in), z, to.dir, to.name); err != nil {
			return res, err
		}
		res, err = fs.meta.MoveZone(ctx, z, moved, from.dir, from.name, to.dir, to.name, flags, busy)
		if !errors.Is(err, meta.ErrStale) {
			return res, err
		}
		id := z.ID
		if z, err = fs.meta.Zone(ctx, id); err != nil {
			return res, err
		}
	}
	return res, err
}
