package control

import "errors"

var (
	// ErrNobody: no daemon listens there (any more).
	ErrNobody = errors.New("no daemon answers")
	// ErrPeer: the process at the other end belongs to a user who has no business here.
	ErrPeer = errors.New("the process at the other end belongs to another user")
	// ErrProtocol: what came is not of this protocol, or larger than allowed.
	ErrProtocol = errors.New("not an answer of the control protocol")
)

// Failure is an error that crossed the socket: Class is what the server called its kind, Text what it said, Next what to do about it, if anything.
type Failure struct {
	Class string `json:"class"`
	Text  string `json:"text"`
	Next  string `json:"next,omitempty"`
}

func (f *Failure) Error() string { return f.Text }
