package policy

import (
	"errors"
	"fmt"
)

var (
	// ErrMalformed: the document is not a policy, or says something that has no meaning here. An Error with this class says where and why.
	ErrMalformed = errors.New("malformed policy document")
	// ErrInvalidPrincipal: a principal that has not the right form, or that Rules.Resolve does not know. It is an ErrMalformed.
	ErrInvalidPrincipal = fmt.Errorf("%w: invalid principal", ErrMalformed)
	// ErrTooLarge: the document is longer than MaxDocument. It is not an ErrMalformed: AWS answers it with another code.
	ErrTooLarge = errors.New("policy document too large")
	// ErrLockout: under this policy the caller could not change the policy again.
	ErrLockout = errors.New("the new key policy will not allow you to update the key policy in the future")
)

// Error is why a document is refused, and where: line and column count from 1, the column in characters. Both are 0 if there is no place to show.
type Error struct {
	Class        error // ErrMalformed, ErrInvalidPrincipal or ErrTooLarge
	Line, Column int
	Reason       string // for people; may quote the document
}

// Error gives the place and the reason.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// Unwrap gives the class.
func (e *Error) Unwrap() error { return e.Class }

// refuse builds the Error of class ErrMalformed that is about the node.
func (n *Node) refuse(format string, args ...any) error {
	return &Error{Class: ErrMalformed, Line: n.Line, Column: n.Column, Reason: fmt.Sprintf(format, args...)}
}

// refuse is the same for the name of a member.
func (m *Member) refuse(format string, args ...any) error {
	return &Error{Class: ErrMalformed, Line: m.Line, Column: m.Column, Reason: fmt.Sprintf(format, args...)}
}

// quote shortens what a document says for a message.
func quote(s string) string {
	r := []rune(s)
	if len(r) > 64 {
		return fmt.Sprintf("%q…", string(r[:64]))
	}
	return fmt.Sprintf("%q", s)
}
