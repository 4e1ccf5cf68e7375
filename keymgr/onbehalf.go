package keymgr

import (
	"context"

	"github.com/kmsfs/kmsfs/hsm"
)

// OnBehalf is the key of a context's value that says for which user of the host a request is made: a uint32.
type OnBehalf struct{}

// UserOf returns that user; ok is false where nobody in particular asks, such as at a mount or in the background.
func UserOf(ctx context.Context) (uid uint32, ok bool) {
	uid, ok = ctx.Value(OnBehalf{}).(uint32)
	return uid, ok
}

// forToken is the context of a call of the token that is made for the caller, where the token wants to know.
func (m *Manager) forToken(ctx context.Context, by Caller) context.Context {
	unix := by.Who.Unix
	if !m.forwards || unix == nil {
		return ctx
	}
	return hsm.ForUser(ctx, &hsm.User{Name: unix.User, UID: unix.UID, Groups: unix.Groups, UnknownGroups: unix.UnresolvedGroups})
}

// InNameOf is the key under which a context has the Caller in whose name keys of files are used.
type InNameOf struct{}

// WithCaller is ctx with the Caller in whose name keys of files are used.
func WithCaller(ctx context.Context, by Caller) context.Context {
	return context.WithValue(ctx, InNameOf{}, by)
}

// CallerOf returns the Caller of WithCaller; the process itself without one.
func CallerOf(ctx context.Context) Caller {
	by, _ := ctx.Value(InNameOf{}).(Caller)
	return by
}
