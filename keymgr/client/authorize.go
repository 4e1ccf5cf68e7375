package client

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// Authorize as keymgr.Manager.Authorize.
func (c *Client) Authorize(ctx context.Context, by keymgr.Caller, in keymgr.AuthorizeInput) (keymgr.Authorization, error) {
	var out wire.AuthorizeResponse
	err := c.call(ctx, by, wire.ServiceKmsfs+"Authorize", wire.AuthorizeRequest{Action: in.Action, KeyId: in.KeyID, EncryptionContext: in.Context, GrantTokens: in.Tokens}, &out)
	return out.Authorization(), err
}

// Watch as keymgr.Manager.Watch, waiting at most wait (to the millisecond, at most 100 s).
func (c *Client) Watch(ctx context.Context, after uint64, keys []string, wait time.Duration) (keymgr.Changes, error) {
	var out wire.WatchResponse
	in := wire.WatchRequest{After: after, KeyIds: keys, WaitMillis: int(wait / time.Millisecond)}
	err := c.callWithin(ctx, wait+c.opts.Timeout, keymgr.Caller{}, wire.ServiceKmsfs+"Watch", in, &out)
	return keymgr.Changes{Epoch: out.Epoch, States: out.States}, err
}
