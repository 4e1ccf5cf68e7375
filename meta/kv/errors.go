package kv

import (
	"errors"
	"fmt"
)

var (
	// ErrConflict: the transaction was run again too often and still met changes. Trying later may help.
	ErrConflict = errors.New("kv: transaction conflicts")

	// ErrTooBig: a key, a value or the whole transaction is larger than the store's Caps allow. The
	// caller must split it.
	ErrTooBig = errors.New("kv: transaction too big")

	// ErrInvalid: a key is empty or begins with byte 0x00, or a value is empty. A bug of the caller.
	ErrInvalid = errors.New("kv: invalid key or value")

	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("kv: store is closed")

	// ErrReadOnly: the store was opened for reading only.
	ErrReadOnly = errors.New("kv: store is read-only")

	// ErrNoSpace: the disk below is full. Nothing was changed; it works again when there is room.
	ErrNoSpace = errors.New("kv: no space left")

	// ErrCorrupt: what lies on disk has not the shape or the authentication code it must have.
	ErrCorrupt = errors.New("kv: store is corrupt")

	// ErrTampered: rows below are not those that the store wrote last: some were put back to an older
	// version, removed or added by somebody else. It is ErrCorrupt as well.
	ErrTampered = fmt.Errorf("%w: rows were changed behind the store's back", ErrCorrupt)

	// ErrFailed: a write or a sync failed earlier, so the state on disk is unknown. Reads go on, updates
	// and syncs fail until the store is opened again.
	ErrFailed = errors.New("kv: store failed")

	// ErrRollback: the store is older than, or has another history than, what its caller knows of it.
	ErrRollback = errors.New("kv: store was rolled back")

	// ErrLocked: another process has the store open.
	ErrLocked = errors.New("kv: store is in use")
)
