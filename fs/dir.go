package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/meta"
)

// Offsets behind "." and ".."; all others are cookies of package meta, which are larger.
const (
	offDot    = 1
	offDotDot = 2
)

// Least bytes that an entry takes in a reply, from which follows how many to fetch: header and a short name, with attributes or without.
const (
	entryBytes     = 24 + 16
	entryPlusBytes = 128 + entryBytes
	maxEntries     = 1024
)

// OpenDir opens a directory. The kernel keeps what is read and knows when it is outdated: all changes are its own.
func (fs *FS) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	ino := meta.Ino(in.NodeId)
	a, err := fs.meta.Getattr(ctx, ino)
	h := newHandle(ino, nil, in.Flags)
	if err == nil {
		h.passes, err = fs.mayOpen(ctx, &in.InHeader, a, syscall.O_RDONLY)
	}
	if err == nil {
		err = fs.keyed(ctx, a)
	}
	if err != nil {
		return fs.status(ctx, "opendir", in.NodeId, stale(err))
	}
	fs.nodes.opened(ino)
	out.Fh = fs.handles.add(h)
	if h.passes != nil {
		return fuse.OK // read anew each time
	}
	out.OpenFlags = fuse.FOPEN_CACHE_DIR
	if !fs.lapsed.worthListing(ino) {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

// ReleaseDir ends a directory handle.
func (fs *FS) ReleaseDir(in *fuse.ReleaseIn) {
	h := fs.handles.remove(in.Fh)
	if h != nil && fs.nodes.closed(h.ino, false) {
		fs.upkeep.release(h.ino)
	}
}

// ReadDir returns the entries behind an offset. Nothing is kept between calls: an offset says where to go on, whatever changed since.
func (fs *FS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	dir := meta.Ino(in.NodeId)
	if err := fs.handles.check(ctx, in.Fh); err != nil {
		return fs.status(ctx, "readdir", in.NodeId, err)
	}
	more, err := fs.dots(ctx, dir, in.Offset, out.AddDirEntry)
	if err != nil || !more {
		return fs.status(ctx, "readdir", in.NodeId, stale(err))
	}
	entries, err := fs.meta.ReadDir(ctx, dir, in.Offset, limit(in.Size, entryBytes))
	if err != nil {
		return fs.status(ctx, "readdir", in.NodeId, stale(err))
	}
	for i := range entries {
		if !out.AddDirEntry(direntry(&entries[i])) {
			break
		}
	}
	fs.touch(ctx, dir)
	return fuse.OK
}

// ReadDirPlus is ReadDir with a lookup of each entry.
func (fs *FS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	dir := meta.Ino(in.NodeId)
	add := func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil } // node 0: no lookup
	if err := fs.handles.check(ctx, in.Fh); err != nil {
		return fs.status(ctx, "readdirplus", in.NodeId, err)
	}
	more, err := fs.dots(ctx, dir, in.Offset, add)
	if err != nil || !more {
		return fs.status(ctx, "readdirplus", in.NodeId, stale(err))
	}
	entries, err := fs.meta.ReadDirPlus(ctx, dir, in.Offset, limit(in.Size, entryPlusBytes))
	if err != nil {
		return fs.status(ctx, "readdirplus", in.NodeId, stale(err))
	}
	given := 0
	for i := range entries {
		entry := out.AddDirLookupEntry(direntry(&entries[i].Dirent))
		if entry == nil {
			break
		}
		if entries[i].Attr != nil {
			fs.reply(entries[i].Attr, entry)
		}
		given++
	}
	fs.lapsed.listed(dir, given, in.Offset == 0)
	if in.Offset == 0 {
		fs.ahead.listed(dir)
	}
	fs.touch(ctx, dir)
	return fuse.OK
}

func limit(size uint32, each int) int { return min(max(int(size)/each, 1), maxEntries) }

func direntry(e *meta.Dirent) fuse.DirEntry {
	return fuse.DirEntry{Mode: e.Type, Name: string(e.Name), Ino: uint64(e.Ino), Off: e.Cookie}
}

// dots adds "." and ".." if they lie behind off. It returns false if they did not fit.
func (fs *FS) dots(ctx *requestContext, dir meta.Ino, off uint64, add func(fuse.DirEntry) bool) (bool, error) {
	if off < offDot && !add(fuse.DirEntry{Mode: meta.ModeDir, Name: ".", Ino: uint64(dir), Off: offDot}) {
		return false, nil
	}
	if off < offDotDot {
		parent, err := fs.meta.Lookup(ctx, dir, []byte(".."))
		if err != nil {
			return false, err
		}
		return add(fuse.DirEntry{Mode: meta.ModeDir, Name: "..", Ino: uint64(parent.Ino), Off: offDotDot}), nil
	}
	return true, nil
}

// FsyncDir makes all changes of names durable. On the mount's root it makes everything durable: sync(2) never reaches a FUSE filesystem.
func (fs *FS) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	if err := fs.atimes.flush(ctx); err != nil {
		return fs.status(ctx, "fsyncdir", in.NodeId, err)
	}
	sync := fs.syncNames
	if meta.Ino(in.NodeId) == meta.RootIno {
		sync = fs.content.SyncAll
	}
	return fs.status(ctx, "fsyncdir", in.NodeId, sync(ctx))
}
