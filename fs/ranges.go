package fs

import (
	"context"
	"errors"
	"fmt"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
)

// Lseek is lseek(2) with SEEK_DATA or SEEK_HOLE; the kernel does the rest itself. With the write-back cache it asks without writing back first,
// so we would not know what was just written. Telling it that the pages are outdated makes it write them; another goroutine takes these writes.
func (fs *FS) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	h, err := fs.handles.file(in.Fh)
	if err != nil {
		return fs.status(ctx, "lseek", in.NodeId, err)
	}
	if fs.nodes.written(h.ino) {
		fs.invalidate(h.ino, true)
	}
	switch in.Whence {
	case unix.SEEK_DATA:
		out.Offset, err = h.file.SeekData(ctx, in.Offset)
	case unix.SEEK_HOLE:
		out.Offset, err = h.file.SeekHole(ctx, in.Offset)
	default:
		err = fmt.Errorf("whence %d: %w", in.Whence, meta.ErrInvalid)
	}
	return fs.status(ctx, "lseek", in.NodeId, err)
}

// Fallocate is fallocate(2): reserve nothing but the size, punch, zero. The kernel does not say whether the caller may keep set-user-id bits, so only root does.
func (fs *FS) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	h, err := fs.handles.file(in.Fh)
	if err == nil {
		err = h.check(ctx)
	}
	if err == nil && in.Mode&unix.FALLOC_FL_PUNCH_HOLE == 0 {
		err = fs.space.admit(ctx)
	}
	if err == nil {
		err = h.file.Fallocate(ctx, in.Mode, in.Offset, in.Length, content.WriteOpts{KillSUID: in.Uid != 0})
		fs.upkeep.shrunk()
	}
	return fs.status(ctx, "fallocate", in.NodeId, err)
}

// copyChunk is how much copy_file_range(2) copies at a time, in bytes, and copyMax how much in one request: the caller cannot be interrupted meanwhile.
const (
	copyChunk = 1 << 20
	copyMax   = 64 << 20
)

// CopyFileRange copies between two open files, decrypting and encrypting: blocks of different files never share a key. Holes stay holes.
func (fs *FS) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	src, err := fs.handles.file(in.FhIn)
	if err != nil {
		return 0, fs.status(ctx, "copy_file_range", in.NodeId, err)
	}
	dst, err := fs.handles.file(in.FhOut)
	if err != nil {
		return 0, fs.status(ctx, "copy_file_range", in.NodeIdOut, err)
	}
	if err := errors.Join(src.check(ctx), dst.check(ctx)); err != nil {
		return 0, fs.status(ctx, "copy_file_range", in.NodeIdOut, err)
	}
	if err := fs.space.admit(ctx); err != nil {
		return 0, fs.status(ctx, "copy_file_range", in.NodeIdOut, err)
	}
	c := copier{src: src.file, dst: dst.file, opts: content.WriteOpts{KillSUID: in.Uid != 0}}
	n, err := c.copy(ctx, in.OffIn, in.OffOut, min(in.Len, copyMax))
	if err != nil && n == 0 {
		return 0, fs.status(ctx, "copy_file_range", in.NodeIdOut, err)
	}
	return uint32(n), fuse.OK
}

// copier copies a range of one file to another, or to another place in the same file.
type copier struct {
	src, dst *content.File
	opts     content.WriteOpts
	buf      []byte
}

// copy copies up to n bytes and returns how many it did: fewer at the end of the source, or with an error.
func (c *copier) copy(ctx context.Context, from, to, n uint64) (uint64, error) {
	size := c.src.Size()
	if from >= size {
		return 0, nil
	}
	n = min(n, size-from)
	for done := uint64(0); done < n; {
		data, hole, err := c.extent(ctx, from+done, n-done)
		if err == nil && hole > 0 {
			err = c.hole(ctx, to+done, hole)
			if err == nil {
				done += hole
			}
		}
		if err != nil {
			return done, err
		}
		m, err := c.data(ctx, from+done, to+done, data)
		done += m
		if err != nil || m < data {
			return done, err
		}
	}
	return n, nil
}

// extent returns how many of the n bytes from off on are hole, and how many behind those are data.
func (c *copier) extent(ctx context.Context, off, n uint64) (data, hole uint64, err error) {
	start, err := c.src.SeekData(ctx, off)
	if errors.Is(err, content.ErrNoData) {
		return 0, n, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if start >= off+n {
		return 0, n, nil
	}
	end, err := c.src.SeekHole(ctx, start)
	if err != nil {
		return 0, 0, err
	}
	return min(end, off+n) - start, start - off, nil
}

// hole makes n bytes at off of the target read as zeros, without storage where it can.
func (c *copier) hole(ctx context.Context, off, n uint64) error {
	if size := c.dst.Size(); off < size {
		punched := min(n, size-off)
		if err := c.dst.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, punched, c.opts); err != nil {
			return err
		}
	}
	if off+n > c.dst.Size() {
		return c.dst.Truncate(ctx, off+n, c.opts)
	}
	return nil
}

// data copies n bytes, by way of memory.
func (c *copier) data(ctx context.Context, from, to, n uint64) (uint64, error) {
	if want := min(n, copyChunk); uint64(len(c.buf)) < want {
		c.buf = make([]byte, want)
	}
	for done := uint64(0); done < n; {
		chunk := c.buf[:min(n-done, uint64(len(c.buf)))]
		got, err := c.src.ReadAt(ctx, chunk, from+done)
		if err != nil || got == 0 {
			return done, err
		}
		m, err := c.dst.WriteAt(ctx, chunk[:got], to+done, c.opts)
		done += uint64(m)
		if err != nil {
			return done, err
		}
	}
	return n, nil
}
