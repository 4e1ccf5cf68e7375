package object

import "errors"

var (
	// ErrMissing: the object does not exist.
	ErrMissing = errors.New("object is missing")

	// ErrTruncated: the object ends before the bytes asked for.
	ErrTruncated = errors.New("object is truncated")

	// ErrHostile: what lies at the object's place is not a regular file with
	// one name beneath the directory (a link, a FIFO, a device, a mount).
	ErrHostile = errors.New("not an object file")

	// ErrFailed: a write or sync failed, now or earlier. Nothing can be written until the
	// volume is opened again.
	ErrFailed = errors.New("object store failed")

	// ErrClosed: the store is closed.
	ErrClosed = errors.New("object store is closed")
)
