package server

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// maxWait is how long a Watch waits at most: less than a slow operation may take.
const maxWait = 100 * time.Second

// watch answers when something has changed, or after the time that the caller wants to wait.
func watch(ctx context.Context, s *server, r *request) (any, error) {
	m, err := s.manager()
	if err != nil {
		return nil, err
	}
	var in wire.WatchRequest
	if err := wire.Decode(r.body, &in); err != nil {
		return nil, err
	}
	wait := time.Duration(in.WaitMillis) * time.Millisecond
	if in.WaitMillis < 0 || wait > maxWait {
		return nil, validation("WaitMillis is not from 0 to 100000")
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.ending:
			cancel()
		case <-stop:
		}
	}()
	changes, err := m.Watch(ctx, in.After, in.KeyIds)
	if err != nil {
		return nil, err
	}
	return &wire.WatchResponse{Epoch: changes.Epoch, States: changes.States}, nil
}

func authorize(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AuthorizeRequest) (wire.AuthorizeResponse, error) {
	a, err := m.Authorize(ctx, r.by, keymgr.AuthorizeInput{Action: in.Action, KeyID: in.KeyId, Context: in.EncryptionContext, Tokens: in.GrantTokens})
	return wire.FromAuthorization(a), err
}
