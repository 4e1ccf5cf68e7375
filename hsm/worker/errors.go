package worker

import (
	"errors"

	"github.com/kmsfs/kmsfs/hsm"
)

// codes are the names of errors on the wire; the first that fits is used, so the
// more special one comes first.
var codes = [...]struct {
	code string
	err  error
}{
	{"timeout", hsm.ErrTimeout},
	{"away", hsm.ErrTokenAway},
	{"mismatch", hsm.ErrKeyMismatch},
	{"notfound", hsm.ErrKeyNotFound},
	{"auth", hsm.ErrAuth},
	{"exists", hsm.ErrExists},
	{"pin", hsm.ErrPIN},
	{"locked", hsm.ErrLocked},
	{"module", hsm.ErrModule},
	{"unfit", hsm.ErrUnfit},
	{"damaged", hsm.ErrDamaged},
	{"closed", hsm.ErrClosed},
	{"size", hsm.ErrSize},
}

const codeOther = "other"

// codeOf names err for the wire.
func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeOther
}

// remoteError is an error that came over the wire: the worker's words, and the
// class to test for.
type remoteError struct {
	text  string
	class error // nil for codeOther and for codes of a newer worker
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.class }

// err is what a reply says went wrong; nil for success.
func (r *reply) err() error {
	if r.Code == "" {
		return nil
	}
	e := &remoteError{text: r.Error}
	for _, c := range codes {
		if c.code == r.Code {
			e.class = c.err
		}
	}
	return e
}

// fail makes r the reply for err.
func (r *reply) fail(err error) {
	text := err.Error()
	if len(text) > maxError {
		text = text[:maxError]
	}
	r.Code, r.Error = codeOf(err), text
}
