package content

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrDamaged: a block does not open: its slot, image or entry was changed, moved, or lost. Other blocks of the file may be fine. It is also
	// a meta.ErrAuth, and object.ErrMissing, ErrTruncated or ErrHostile where that was the cause.
	ErrDamaged = errors.New("content: damaged")

	// ErrTooLarge: the file would be longer than the lower filesystem or the format allows. It is an EFBIG.
	ErrTooLarge = fmt.Errorf("content: file too large: %w", syscall.EFBIG)

	// ErrNoData: SeekData or SeekHole at or behind the end of the file, or SeekData with no data after the offset. It is an ENXIO.
	ErrNoData = fmt.Errorf("content: no data: %w", syscall.ENXIO)

	// ErrMode: a combination of fallocate flags that is not supported. It is an EOPNOTSUPP.
	ErrMode = fmt.Errorf("content: fallocate mode: %w", syscall.EOPNOTSUPP)

	// ErrNotRegular: the inode is no regular file.
	ErrNotRegular = errors.New("content: not a regular file")

	// ErrClosed: the engine is closed, or the File has been closed by its last user.
	ErrClosed = errors.New("content: closed")
)
