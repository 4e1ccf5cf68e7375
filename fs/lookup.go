package fs

import (
	"context"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/meta"
)

// Lookup finds a name in a directory; "." and ".." too. That a name is not there is an answer that the kernel keeps.
func (fs *FS) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	ctx := request(cancel, in)
	defer ctx.finish()
	kept, err := fs.maySeeName(ctx, in, name)
	if err != nil {
		return fs.status(ctx, "lookup", in.NodeId, err)
	}
	a, err := fs.meta.Lookup(ctx, meta.Ino(in.NodeId), []byte(name))
	if errors.Is(err, meta.ErrNotFound) {
		out.SetEntryTimeout(kept) // with node 0: a negative entry
		return fuse.OK
	}
	if err != nil {
		return fs.status(ctx, "lookup", in.NodeId, err)
	}
	fs.reply(a, out)
	return fuse.OK
}

// reply gives the kernel an inode and counts it.
func (fs *FS) reply(a *meta.Attr, out *fuse.EntryOut) {
	fs.atimes.overlay(a)
	fillEntry(a, out)
	if fs.strictMetadata(a.Zone) {
		out.SetEntryTimeout(0)
		out.SetAttrTimeout(0)
	}
	fs.nodes.lookedUp(a.Ino)
}

// Forget takes back lookups of an inode that the kernel dropped. An orphan goes with the last of them, in the background.
func (fs *FS) Forget(nodeid, nlookup uint64) {
	if fs.nodes.forgotten(meta.Ino(nodeid), nlookup) {
		fs.upkeep.release(meta.Ino(nodeid))
	}
}

// Readlink returns the target of a symbolic link.
func (fs *FS) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	ctx := request(cancel, in)
	defer ctx.finish()
	ino := meta.Ino(in.NodeId)
	if err := fs.maySee(ctx, in, ino); err != nil {
		return nil, fs.status(ctx, "readlink", in.NodeId, err)
	}
	target, err := fs.meta.Readlink(ctx, ino)
	if err != nil {
		return nil, fs.status(ctx, "readlink", in.NodeId, stale(err))
	}
	fs.touch(ctx, ino)
	return target, fuse.OK
}

// touch notes an access to an inode. It returns whether the access time changed.
func (fs *FS) touch(ctx context.Context, ino meta.Ino) bool {
	if fs.atimes.off {
		return false
	}
	a, err := fs.meta.Getattr(ctx, ino)
	return err == nil && fs.atimes.accessed(a)
}
