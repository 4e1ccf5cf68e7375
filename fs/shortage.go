package fs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/meta"
)

// The page cache takes writes without asking. When space is short it is made to ask: the attributes of all files that are open for writing are
// invalidated, and then write(2) begins with a GETATTR, which is refused. It names the file's handle, which fstat(2) does not; the kernel's other
// requests of this kind (reading behind the end, seeking to it) need the size only, which it knows itself. Mappings are not asked for: what is written
// through them is refused when it is written back, as is the rest that the reserve does not hold.

// shortage is called when space becomes short.
func (u *upkeep) shortage() {
	kick(u.soon)
	for _, ino := range u.fs.nodes.writing() {
		u.outdated(ino)
	}
}

// doubt sees that the kernel asks again before it writes to an inode whose attributes it was just given, while space is short.
func (fs *FS) doubt(ino meta.Ino) {
	if fs.space.short.Load() && fs.nodes.written(ino) {
		fs.upkeep.outdated(ino)
	}
}

// askBeforeWrites sees that the kernel asks before it writes to an inode that is just being opened for writing, if space is short.
func (fs *FS) askBeforeWrites(ino meta.Ino) {
	if _, err := fs.space.look(); err == nil && fs.space.short.Load() {
		fs.invalidate(ino, false)
	}
}

// beforeWrite refuses the request that comes before a write(2) to the page cache while space is short.
func (fs *FS) beforeWrite(ctx context.Context, in *fuse.GetAttrIn) error {
	if in.Flags()&fuse.FUSE_GETATTR_FH == 0 || !fs.space.short.Load() || !fs.nodes.written(meta.Ino(in.NodeId)) {
		return nil
	}
	return fs.space.admit(ctx)
}

// room says whether a write may go on: one from the page cache as long as it fits at all, others as new ones.
func (fs *FS) room(ctx context.Context, in *fuse.WriteIn) error {
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		return fs.space.accept(ctx)
	}
	return fs.space.admit(ctx)
}

// freed gives the room of what was deleted back at once while space is short. false if that was done a moment ago: it can wait for the next tick.
func (u *upkeep) freed(ctx context.Context) bool {
	space := u.fs.space
	space.deleted.Store(true)
	if !space.short.Load() {
		return true
	}
	if space.justMade() {
		return false
	}
	space.relieve(ctx)
	if _, err := space.look(); err != nil {
		u.fs.failed("statfs", 0, err)
	}
	return true
}
