package content

import (
	"context"

	"github.com/kmsfs/kmsfs/meta"
)

// File is the content of one inode. All methods are safe for concurrent use; reads run in parallel.
//
// Every method that needs the file's keys fails with meta.ErrKeyUnavailable or meta.ErrKeyRevoked when these may not be had or used any more.
// Whatever does not open as it should is ErrDamaged and meta.ErrAuth; then no bytes of other content are ever returned.
type File struct {
}

// WriteOpts says what a change does besides.
type WriteOpts struct {
	// KillSUID clears the set-user-id bit, and the set-group-id bit of a group-executable file.
	KillSUID bool
}

// Ino returns the inode.
func (f *File) Ino() meta.Ino { return 0 }

// Size returns the current size in bytes without reading anything.
func (f *File) Size() uint64 { return 0 }

// Attr returns a copy of the inode's current row, size included.
func (f *File) Attr(ctx context.Context) (*meta.Attr, error) { return nil, errTemp }

// ReadAt fills p with the bytes from off on and returns how many there were: fewer than len(p) only at the end of the file, 0 behind it, both
// without an error. Holes are zeros. On error the count is 0 and p holds nothing of use.
func (f *File) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) { return 0, errTemp }

// WriteAt writes all of p at off and returns how many bytes were written: all, or with an error those before it. A gap behind the old end
// becomes a hole. mtime and ctime are set. On return the write survives the death of the process.
//
// Errors: ErrTooLarge, meta.ErrNoSpace or ENOSPC, and those of reading where a block is changed in part.
func (f *File) WriteAt(ctx context.Context, p []byte, off uint64, opts WriteOpts) (int, error) {
	return 0, errTemp
}

// Truncate sets the size. What is cut off reads as zeros if the file grows again. mtime and ctime are set, also if the size was this before. If it
// is interrupted by a crash the size may be anything between the old and the new one.
func (f *File) Truncate(ctx context.Context, size uint64, opts WriteOpts) error { return errTemp }

// Fallocate is fallocate(2) with mode 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE|KEEP_SIZE or FALLOC_FL_ZERO_RANGE with or without KEEP_SIZE.
// Modes without a hole set the size and reserve nothing. Errors: ErrMode, ErrTooLarge.
func (f *File) Fallocate(ctx context.Context, mode uint32, off, n uint64, opts WriteOpts) error {
	return errTemp
}

// SeekData returns the first offset >= off with data, at the granularity of blocks. ErrNoData if there is none.
func (f *File) SeekData(ctx context.Context, off uint64) (uint64, error) { return 0, errTemp }

// SeekHole returns the first offset >= off in a hole; the end of the file is one. ErrNoData if off is not before the end.
func (f *File) SeekHole(ctx context.Context, off uint64) (uint64, error) { return 0, errTemp }

// Sync is fsync: content, size, name, keys and attributes of the inode as of the call survive a power cut.
func (f *File) Sync(ctx context.Context) error { return errTemp }

// Close ends one Open. The last one of an inode without a name frees it; the error is then that of freeing.
func (f *File) Close() error { return errTemp }
