package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// cacheFor is how long the kernel may keep entries, missing entries and attributes: "for ever", since all changes go through this mount and the
// kernel makes or hears of each.
const cacheFor = time.Hour

// generation of every inode: numbers are never reused.
const generation = 1

// statBlock is the unit of st_blocks, fixed by stat(2).
const statBlock = 512

// minIOSize is the least st_blksize that is reported.
const minIOSize = 4096

// Now returns the current time with the granularity of the kernel's own file times (CLOCK_REALTIME_COARSE). The kernel sets mtime and ctime of
// written files, we set all others: with a finer clock of ours, a file's times could run backwards between a create and the first write.
func Now() meta.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return meta.TimeOf(time.Now())
	}
	return meta.Time{Sec: ts.Sec, Nsec: uint32(ts.Nsec)}
}

// blocks returns st_blocks. Inline content counts as the sectors it would fill: a file with content but no blocks would pass for a hole, and tar
// would not read it. A file without content stays inline when it grows to any size.
func blocks(a *meta.Attr) uint64 {
	bytes := a.Allocated
	if a.Layout == meta.LayoutInline && a.Size <= blockcrypt.MaxInline {
		bytes = a.Size
	}
	return (bytes + statBlock - 1) / statBlock
}

func ioSize(a *meta.Attr) uint32 { return max(a.BlockSize, minIOSize) }

// fillAttr turns an inode's attributes into FUSE's.
func fillAttr(a *meta.Attr, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: uint64(a.Ino), Size: a.Size, Blocks: blocks(a),
		Atime: uint64(a.Atime.Sec), Atimensec: a.Atime.Nsec,
		Mtime: uint64(a.Mtime.Sec), Mtimensec: a.Mtime.Nsec,
		Ctime: uint64(a.Ctime.Sec), Ctimensec: a.Ctime.Nsec,
		Mode: a.Mode, Nlink: a.Nlink, Owner: fuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev: a.Rdev, Blksize: ioSize(a),
	}
}

func statxTime(t meta.Time) fuse.SxTime { return fuse.SxTime{Sec: uint64(t.Sec), Nsec: t.Nsec} }

// fillStatx is fillAttr for statx(2), with the time of birth. Device numbers come in the encoding of Linux' new_encode_dev.
func fillStatx(a *meta.Attr, out *fuse.Statx) {
	*out = fuse.Statx{
		Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME, Blksize: ioSize(a), Nlink: a.Nlink, Uid: a.UID, Gid: a.GID, Mode: uint16(a.Mode),
		Ino: uint64(a.Ino), Size: a.Size, Blocks: blocks(a),
		Atime: statxTime(a.Atime), Btime: statxTime(a.Btime), Ctime: statxTime(a.Ctime), Mtime: statxTime(a.Mtime),
		RdevMajor: (a.Rdev & 0xfff00) >> 8, RdevMinor: a.Rdev&0xff | (a.Rdev>>12)&0xfff00,
	}
}

// fillEntry is the reply that gives the kernel an inode; the caller counts the lookup.
func fillEntry(a *meta.Attr, out *fuse.EntryOut) {
	out.NodeId, out.Generation = uint64(a.Ino), generation
	out.SetEntryTimeout(cacheFor)
	out.SetAttrTimeout(cacheFor)
	fillAttr(a, &out.Attr)
}

// GetAttr is stat(2), as far as the kernel does not know.
func (fs *FS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	ino := meta.Ino(in.NodeId)
	if err := fs.beforeWrite(ctx, in); err != nil {
		return fs.status(ctx, "write", in.NodeId, err)
	}
	if in.Flags()&fuse.FUSE_GETATTR_FH == 0 { // else it is open, which was decided
		if err := fs.maySee(ctx, &in.InHeader, ino); err != nil {
			return fs.status(ctx, "getattr", in.NodeId, err)
		}
	}
	a, err := fs.attr(ctx, ino)
	if err != nil {
		return fs.status(ctx, "getattr", in.NodeId, err)
	}
	fs.doubt(ino)
	fillAttr(a, &out.Attr)
	out.SetTimeout(cacheFor)
	if fs.strictMetadata(a.Zone) {
		out.SetTimeout(0)
	}
	return fuse.OK
}

// Statx is statx(2); the kernel asks only for what GetAttr does not give, the time of birth.
func (fs *FS) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	if err := fs.maySee(ctx, &in.InHeader, meta.Ino(in.NodeId)); err != nil {
		return fs.status(ctx, "statx", in.NodeId, err)
	}
	a, err := fs.attr(ctx, meta.Ino(in.NodeId))
	if err != nil {
		return fs.status(ctx, "statx", in.NodeId, err)
	}
	fillStatx(a, &out.Statx)
	out.AttrValid = uint64(cacheFor / time.Second)
	if fs.strictMetadata(a.Zone) {
		out.AttrValid = 0
	}
	return fuse.OK
}

// attr returns an inode's attributes with the access time that is still to be written.
func (fs *FS) attr(ctx *requestContext, ino meta.Ino) (*meta.Attr, error) {
	a, err := fs.meta.Getattr(ctx, ino)
	if err != nil {
		return nil, stale(err)
	}
	fs.atimes.overlay(a)
	return a, nil
}
