package keymgr

import "context"

// OnBehalf is the key of a context's value that says for which user of the host a request is made: a uint32.
type OnBehalf struct{}

// UserOf returns that user; ok is false where nobody in particular asks, such as at a mount or in the background.
func UserOf(ctx context.Context) (uid uint32, ok bool) {
	uid, ok = ctx.Value(OnBehalf{}).(uint32)
	return uid, ok
}
