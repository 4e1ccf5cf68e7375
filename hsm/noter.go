package hsm

import (
	"context"
	"fmt"
)

// MaxNote is the longest note, in bytes; the shortest is 1.
const MaxNote = 256

// Noter is a Token that keeps short notes for whoever uses it, under the same rules as Token. A note is not secret from those who may log in, and cannot be
// changed by those who may not.
type Noter interface {
	// Note returns the note of an id, nil if there is none. Of several, which a crash may leave, it is the greatest in the order of bytes: so a note that replaces
	// another begins with a number that has grown.
	Note(ctx context.Context, id KeyID) ([]byte, error)

	// PutNote makes a note the one of its id, and returns when it is durable in the token. ErrSize if it is not 1 to MaxNote bytes long. When it fails, the old one or the
	// new one is there.
	PutNote(ctx context.Context, id KeyID, note []byte) error
}

// CheckNote refuses a note of a length out of range with ErrSize. Implementations call it first.
func CheckNote(note []byte) error {
	if n := len(note); n < 1 || n > MaxNote {
		return fmt.Errorf("%w: a note of %d bytes", ErrSize, n)
	}
	return nil
}
