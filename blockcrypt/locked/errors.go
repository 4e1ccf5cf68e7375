package locked

import "errors"

var (
	// ErrSize: a secret is empty or longer than allowed.
	ErrSize = errors.New("wrong size for a secret")
	// ErrEmpty: a source of a secret held nothing. It is an ErrSize.
	ErrEmpty error = emptyError{}
	// ErrClosed: the Buffer was closed, its secret is gone.
	ErrClosed = errors.New("locked buffer is closed")
)

type emptyError struct{}

func (emptyError) Error() string        { return "the secret is empty" }
func (emptyError) Is(target error) bool { return target == ErrSize }
