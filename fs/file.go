package fs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
)

// Open opens a regular file. It is where a missing key, a full disk and the like are told to the program: what is written goes to the page cache,
// and later errors reach it only at fsync and close.
func (fs *FS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	return fs.status(ctx, "open", in.NodeId, stale(fs.opened(ctx, opening{caller: &in.InHeader, ino: meta.Ino(in.NodeId), flags: in.Flags, fuseFlags: in.Mode}, out)))
}

// opening is what an open asks for.
type opening struct {
	caller    *fuse.InHeader
	ino       meta.Ino
	flags     uint32 // of open(2)
	fuseFlags uint32 // OPEN_KILL_SUIDGID
	created   bool   // by the same request, which was decided as a creation
}

// opened opens an inode.
func (fs *FS) opened(ctx *requestContext, o opening, out *fuse.OpenOut) error {
	first, err := fs.nodes.enter(ctx, o.ino, o.writes())
	if err != nil {
		return err
	}
	h, err := fs.openHandle(ctx, o, out)
	if err == nil && first {
		err = fs.fill(ctx, h, o, out)
	}
	if err != nil {
		fs.abandon(h, o)
		return err
	}
	if h.write {
		kick(fs.upkeep.soon)
		fs.askBeforeWrites(o.ino)
	}
	out.Fh = fs.handles.add(h)
	return nil
}

// writes says whether it is for writing.
func (o *opening) writes() bool { return o.flags&syscall.O_ACCMODE != syscall.O_RDONLY }

// openHandle returns a handle that is ready for use. On error it may return one that is open all the same.
func (fs *FS) openHandle(ctx *requestContext, o opening, out *fuse.OpenOut) (*handle, error) {
	file, err := fs.content.Open(ctx, o.ino)
	if err != nil {
		return nil, err
	}
	h := newHandle(o.ino, file, o.flags)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return h, fs.prepare(ctx, h, o, out)
}

// abandon takes back what a failed open has done.
func (fs *FS) abandon(h *handle, o opening) {
	if h != nil {
		if err := h.file.Close(); err != nil {
			fs.failed("release", uint64(o.ino), err)
		}
	}
	if fs.nodes.closed(o.ino, o.writes()) {
		fs.upkeep.release(o.ino)
	}
}

// prepare does what an open does besides: checks the caller's right, which is recorded, and the key, truncates. A full disk is no reason to refuse it: O_TRUNC comes as a request of its own
// afterwards, and makes room.
func (fs *FS) prepare(ctx *requestContext, h *handle, o opening, out *fuse.OpenOut) error {
	a, err := h.file.Attr(ctx)
	if err != nil {
		return err
	}
	if err := fs.admit(ctx, h, a, o, out); err != nil {
		return err
	}
	if err := fs.keyed(ctx, a); err != nil {
		return err
	}
	h.dir, h.place = a.Parent, a.Cookie()
	if err := h.file.Warm(inNameOf(ctx, o.caller)); err != nil {
		return err
	}
	if o.flags&syscall.O_TRUNC != 0 && h.write {
		err := h.file.Truncate(ctx, 0, content.WriteOpts{KillSUID: o.fuseFlags&fuse.OPEN_KILL_SUIDGID != 0})
		fs.upkeep.shrunk()
		return err
	}
	return nil
}

// admit decides the open. In a zone with strict revocation the page cache is left out: what is in it is read by all who have the file open.
func (fs *FS) admit(ctx *requestContext, h *handle, a *meta.Attr, o opening, out *fuse.OpenOut) (err error) {
	if !fs.deciding() {
		return nil
	}
	h.by, h.zone = requester(o.caller), a.Zone
	if fs.access.Settings(a.Zone).Strict {
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
	}
	if o.created && out.OpenFlags&fuse.FOPEN_DIRECT_IO == 0 {
		return nil
	}
	if o.created { // what it may by its creation, as long as it may create
		var p *access.Pass
		p, err = fs.access.Decide(ctx, requester(o.caller), access.Create, access.Target{Zone: a.Zone, Ino: a.Ino})
		h.passes = []*access.Pass{p}
		return err
	}
	h.passes, err = fs.mayOpen(ctx, o.caller, a, o.flags)
	return err
}

// Read reads from an open file. Files opened for writing only are read as well: the kernel completes partial pages.
func (fs *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	h, err := fs.handles.file(in.Fh)
	if err != nil {
		return nil, fs.status(ctx, "read", in.NodeId, err)
	}
	if err := h.check(ctx); err != nil {
		return nil, fs.status(ctx, "read", in.NodeId, err)
	}
	n, err := h.file.ReadAt(ctx, buf, in.Offset)
	if err != nil {
		return nil, fs.status(ctx, "read", in.NodeId, err)
	}
	h.got.Add(uint64(n))
	if h.read {
		if !h.seen.Swap(true) {
			fs.ahead.read(h.dir, h.place)
		}
		fs.touch(ctx, h.ino)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write writes to an open file. A write from the page cache comes with any writable handle of the inode, and counts as failed if any of it failed: the kernel
// takes no note of a short one.
func (fs *FS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	h, err := fs.handles.file(in.Fh)
	if err != nil {
		return 0, fs.status(ctx, "write", in.NodeId, err)
	}
	if err := h.check(ctx); err != nil {
		return 0, fs.status(ctx, "write", in.NodeId, err)
	}
	if err := fs.room(ctx, in); err != nil {
		return 0, fs.status(ctx, "write", in.NodeId, err)
	}
	n, err := h.file.WriteAt(ctx, data, in.Offset, content.WriteOpts{
		KillSUID: in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0, KeepTimes: in.WriteFlags&fuse.WRITE_CACHE != 0,
	})
	h.put.Add(uint64(n))
	if err != nil && (n == 0 || in.WriteFlags&fuse.WRITE_CACHE != 0) {
		fs.noteLoss(in, err)
		return 0, fs.status(ctx, "write", in.NodeId, err)
	}
	return uint32(n), fuse.OK
}

// noteLoss sees that fsync fails from now on, while the file is open, after a write from the page cache failed: the kernel says so once and then takes its
// pages for written. A full disk is left to the kernel: there is something a program can do about it.
func (fs *FS) noteLoss(in *fuse.WriteIn, err error) {
	if in.WriteFlags&fuse.WRITE_CACHE != 0 && Errno(err) != syscall.ENOSPC {
		fs.nodes.lose(meta.Ino(in.NodeId), err)
	}
}

// Flush is close(2) of one descriptor. There is nothing to do: dirty pages are written back by the kernel before, which knows of errors by then, and what
// was written survives us already. ENOSYS tells the kernel, which never asks again: close costs no round trip.
func (fs *FS) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Fsync makes a file durable: content, size, attributes, name.
func (fs *FS) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	h, err := fs.handles.file(in.Fh)
	if err == nil {
		err = fs.nodes.loss(h.ino)
	}
	if err == nil {
		err = h.file.Sync(ctx)
	}
	return fs.status(ctx, "fsync", in.NodeId, err)
}

// Release ends a handle, after its last descriptor and mapping.
func (fs *FS) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	h := fs.handles.remove(in.Fh)
	if h == nil || h.file == nil {
		return
	}
	// Reads from the page cache and of mappings are never seen here. A file that was open for reading while none was seen counts as read.
	if h.read && !h.seen.Load() && h.file.Size() > 0 {
		h.touched = fs.touch(context.Background(), h.ino)
	}
	if h.touched {
		fs.invalidate(h.ino, false)
	}
	if err := h.file.Close(); err != nil {
		fs.failed("release", in.NodeId, err)
	}
	if fs.nodes.closed(h.ino, h.write) {
		fs.upkeep.release(h.ino)
	}
	fs.lapsed.closed(h.dir)
	fs.recordClose(h)
}

// Ioctl knows none. ENOTTY, not ENOSYS: the latter would be wrong for a call that exists.
func (fs *FS) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
