package fs

import (
	"fmt"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// Rename is renameat2(2) with any of its flags.
func (fs *FS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	const known = uint32(meta.RenameNoReplace | meta.RenameExchange | meta.RenameWhiteout)
	if in.Flags&^known != 0 {
		return fs.status(ctx, "rename", in.NodeId, fmt.Errorf("flags %#x: %w", in.Flags, meta.ErrInvalid))
	}
	from, to := place{meta.Ino(in.NodeId), []byte(oldName)}, place{meta.Ino(in.Newdir), []byte(newName)}
	return fs.status(ctx, "rename", in.NodeId, fs.rename(ctx, &in.InHeader, from, to, meta.RenameFlags(in.Flags)))
}

// place is a name in a directory.
type place struct {
	dir  meta.Ino
	name []byte
}

func (fs *FS) rename(ctx *requestContext, in *fuse.InHeader, from, to place, flags meta.RenameFlags) error {
	res, done, err := fs.renameAcross(ctx, in, from, to, flags)
	if err == nil && !done {
		res, err = fs.renameWithin(ctx, in, from, to, flags)
	}
	if err != nil {
		return err
	}
	fs.renamed(res.Moved, res.Replaced)
	if flags&meta.RenameExchange == 0 {
		fs.orphan(res.Replaced)
	}
	return nil
}

// renameWithin renames what stays in its zone, and directories of zones.
func (fs *FS) renameWithin(ctx *requestContext, in *fuse.InHeader, from, to place, flags meta.RenameFlags) (res meta.RenameResult, err error) {
	if err := fs.mayRename(ctx, in, from, to, flags); err != nil {
		return res, err
	}
	owner := meta.Owner{UID: in.Uid, GID: in.Gid}
	if flags&meta.RenameExchange == 0 {
		if err := fs.syncBeforeReplace(ctx, from, to); err != nil {
			return res, err
		}
	}
	zone, err := fs.movedZone(ctx, from)
	if err != nil {
		return res, err
	}
	r := fs.removal()
	defer r.done()
	if zone != nil && flags&^meta.RenameNoReplace == 0 {
		return fs.renameZone(ctx, in, zone, from, to, flags, r.busy)
	}
	return fs.meta.RenameAs(inNameOf(ctx, in), owner, from.dir, from.name, to.dir, to.name, flags, r.busy)
}

// renamed makes known whose paths are not what they were.
func (fs *FS) renamed(inodes ...*meta.Attr) {
	if fs.access != nil {
		fs.access.Renamed(inodes...)
	}
}

// syncBeforeReplace makes the content of a file durable before it takes the place of another. Many programs write a new version under another name,
// do not fsync, and rename: a power cut must not leave them a file of zeros where the old version was.
func (fs *FS) syncBeforeReplace(ctx *requestContext, from, to place) error {
	old, err := fs.meta.Lookup(ctx, to.dir, to.name)
	if err != nil || !old.IsRegular() {
		return nil // nothing is replaced; other errors are the rename's to find
	}
	moved, err := fs.meta.Lookup(ctx, from.dir, from.name)
	if err != nil || !moved.IsRegular() || moved.Ino == old.Ino {
		return nil
	}
	return fs.content.SyncContent(ctx, moved.Ino)
}

// Link gives an inode another name, or one made by Tmpfile its first.
func (fs *FS) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	err := fs.mayName(ctx, &in.InHeader, access.Create, meta.Ino(in.NodeId), name)
	if err == nil {
		err = fs.space.admit(ctx)
	}
	if err != nil {
		return fs.status(ctx, "link", in.Oldnodeid, err)
	}
	a, err := fs.meta.Link(inNameOf(ctx, &in.InHeader), meta.Ino(in.Oldnodeid), meta.Ino(in.NodeId), []byte(name))
	if err != nil {
		return fs.status(ctx, "link", in.Oldnodeid, err)
	}
	fs.nodes.named(a.Ino)
	fs.renamed(a)
	fs.reply(a, out)
	return fuse.OK
}
