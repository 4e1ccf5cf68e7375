package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
)

// removal guards an operation that may take the last name of an inode. An inode that the kernel knows stays until it is forgotten: a descriptor
// opened with O_PATH or a working directory is no open file to us, and yet stat, chmod and the rest must go on to work.
type removal struct {
	fs      *FS
	content *content.Removal
}

func (fs *FS) removal() *removal {
	return &removal{fs: fs, content: fs.content.Removal()}
}

// busy is the callback of package meta that tells whether an inode is in use.
func (r *removal) busy(ino meta.Ino) bool {
	return r.content.Busy(ino) || r.fs.nodes.inUse(ino)
}

func (r *removal) done() { r.content.Done() }

// orphan notes what the operation left without a name, and has it released if nothing uses it.
func (fs *FS) orphan(victim *meta.Attr) {
	if victim == nil || !victim.Flags.Orphan() {
		return
	}
	if fs.nodes.orphaned(victim.Ino) {
		fs.upkeep.release(victim.Ino)
	}
}

// Unlink removes a name that is no directory.
func (fs *FS) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	ctx := request(cancel, in)
	defer ctx.finish()
	if err := fs.mayName(ctx, in, access.Delete, meta.Ino(in.NodeId), name); err != nil {
		return fs.status(ctx, "unlink", in.NodeId, err)
	}
	r := fs.removal()
	defer r.done()
	victim, err := fs.meta.Unlink(ctx, meta.Ino(in.NodeId), []byte(name), r.busy)
	if err == nil {
		fs.renamed(victim)
		fs.orphan(victim)
		fs.upkeep.shrunk()
	}
	return fs.status(ctx, "unlink", in.NodeId, err)
}

// Rmdir removes an empty directory.
func (fs *FS) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	ctx := request(cancel, in)
	defer ctx.finish()
	if err := fs.mayRmdir(ctx, in, name); err != nil {
		return fs.status(ctx, "rmdir", in.NodeId, err)
	}
	r := fs.removal()
	defer r.done()
	victim, err := fs.meta.Rmdir(ctx, meta.Ino(in.NodeId), []byte(name), r.busy)
	if err == nil {
		fs.renamed(victim)
		fs.orphan(victim)
		fs.upkeep.shrunk()
	}
	return fs.status(ctx, "rmdir", in.NodeId, err)
}
