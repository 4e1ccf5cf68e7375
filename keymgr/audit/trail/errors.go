package trail

import "errors"

var (
	// ErrNoLog: there is no audit log in this place.
	ErrNoLog = errors.New("no audit log")
	// ErrInUse: another process writes this stream.
	ErrInUse = errors.New("the audit stream is in use")
	// ErrDamaged: the log is not what was written and sealed.
	ErrDamaged = errors.New("the audit log is damaged")
	// ErrUnsafe: the log's directory is open to others.
	ErrUnsafe = errors.New("the audit log is not safe from others")

	errTorn = errors.New("torn line")
)
