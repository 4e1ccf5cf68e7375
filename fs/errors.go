package fs

import "errors"

// Errors of mounting and unmounting, and of requests that only this package refuses.
var (
	// ErrMount: the kernel or fusermount3 refused the mount; the text says why.
	ErrMount = errors.New("fs: mount refused")
	// ErrNoFUSE: /dev/fuse is not there or may not be opened; load the fuse module, or install fuse3 for mounts by users.
	ErrNoFUSE = errors.New("fs: no FUSE")
	// ErrBusy: the mount is in use (open files, working directories) and was not unmounted.
	ErrBusy = errors.New("fs: mount is busy")
	// ErrTooBig: an offset or size beyond the largest file.
	ErrTooBig = errors.New("fs: file too large")
	// ErrHandle: a request named a handle that is not open, or of the wrong kind.
	ErrHandle = errors.New("fs: no such handle")
	// ErrUnsupported: an operation or mode that this filesystem does not have.
	ErrUnsupported = errors.New("fs: not supported")
	// ErrReserve: the space that is left on the lower filesystem is kept for what has been accepted already.
	ErrReserve = errors.New("fs: no space beyond the reserve")
)
