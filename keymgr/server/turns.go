package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
)

// Calls of the token that are under way at once, by every way that they come: front ends, direct clients, signed requests. A principal whose calls hang leaves
// half of them to all others.
const (
	maxTokenCalls          = 64 // as many as the worker takes
	maxPrincipalTokenCalls = maxTokenCalls / 2
)

// inTurn runs an operation, one that the token works for when it is its principal's turn.
func (s *server) inTurn(ctx context.Context, op operation, r *request) (out any, err error) {
	if !op.token {
		return op.run(ctx, s, r)
	}
	ran := false
	err = s.turns.Do(ctx, r.by.Principal, func() (err error) {
		ran = true
		out, err = op.run(ctx, s, r)
		return err
	})
	if err != nil && !ran {
		err = &keymgr.Fault{Class: keymgr.ErrDependencyTimeout, Message: "other calls of the same principal do not end", Cause: err}
	}
	return out, err
}
