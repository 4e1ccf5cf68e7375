package trail

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// await waits until done is closed. audit.ErrBlocked when limited is over, or the error of ctx, from which limited was made.
func await(ctx, limited context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-limited.Done():
	}
	select {
	case <-done: // both, after a standstill
		return nil
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return audit.ErrBlocked
}
