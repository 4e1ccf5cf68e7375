package audit

import (
	"context"
	"errors"
)

// Recorder takes events down.
type Recorder interface {
	// Record returns nil when e is in the log as durably as its class demands. It sets e's ID and Time. It ends within its recorder's own limit (about 2 s), or with ctx if that is
	// earlier: the event may then still reach the log. An error (ErrFull, ErrBlocked, ErrClosed, the system's) means that the operation must not go on. Where the recorder was
	// told to let successful file access go on without its record, such an Access event gives nil, and the log gets an event that says how many are missing.
	Record(ctx context.Context, e *Event) error
}

var (
	// ErrBlocked: the log, or another place that must have the event, did not take it in time.
	ErrBlocked = errors.New("the audit log does not take events in time")
	// ErrFull: there is no space for the event.
	ErrFull = errors.New("the audit log is full")
	// ErrClosed: the log is closed.
	ErrClosed = errors.New("the audit log is closed")
	// ErrEvent: what was read is not an event.
	ErrEvent = errors.New("malformed audit event")
)

// Level is how much of what happens to files a zone wants in the log.
type Level string

const (
	LevelDenied Level = "denied" // what was refused
	LevelAccess Level = "access" // what was allowed, too; a power cut may take the last FlushWithin of that. The default
	LevelFull   Level = "full"   // and nothing is lost to a power cut
)

// Wants says whether a zone of this level wants the event, and sets e.Durable. Only Access events can be unwanted. The zero Level is LevelAccess.
func (l Level) Wants(e *Event) bool {
	if e.Class != Access {
		return true
	}
	e.Durable = e.Durable || l == LevelFull
	return l != LevelDenied
}

// Valid says whether l is one of the levels.
func (l Level) Valid() bool { return l == LevelDenied || l == LevelAccess || l == LevelFull }
