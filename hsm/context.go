package hsm

import (
	"context"
	"errors"
	"fmt"
)

// ContextError says why ctx is over, as tokens report it: ErrTimeout together
// with context.DeadlineExceeded, or context.Canceled alone. It is nil while ctx
// goes on.
func ContextError(ctx context.Context) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}
