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

// Failure is an error that crossed the socket: Class is what the server's classifier called it, Text what it said.
type Failure struct {
	Class string `json:"class"`
	Text  string `json:"text"`
}

func (f *Failure) Error() string { return f.Text }
