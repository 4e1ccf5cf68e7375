package transfer

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

var (
	// ErrOverlap: source and target lie in one another.
	ErrOverlap = errors.New("source and target lie in one another")
	// errChanged: a file changed while it was read.
	errChanged = errors.New("it changes while it is read")
	// errInUse: a program has the file open.
	errInUse = errors.New("a program has it open")
)

// ending are errors after which the next file would fail too: no room, no keys, no daemon.
var ending = []error{
	context.Canceled, context.DeadlineExceeded, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.ENOKEY, unix.EKEYREVOKED, unix.EKEYEXPIRED, unix.ENOTCONN,
	unix.ECONNABORTED, unix.ECANCELED, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ESHUTDOWN,
}

// ends tells whether an error ends the run, and is not about one file alone.
func ends(err error) bool {
	for _, e := range ending {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
