package keymgr

import (
	"context"
	"math/rand/v2"
	"sync"
)

// watch tells that something has changed: keys, policies, grants, identities.
type watch struct {
	mu struct {
		sync.Mutex
		epoch uint64        // not 0; another one after each change, and in each process
		next  chan struct{} // closed by the next change
	}
}

func (w *watch) init() {
	w.mu.epoch = rand.Uint64() | 1<<63
	w.mu.next = make(chan struct{})
}

func (w *watch) changed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.epoch++
	close(w.mu.next)
	w.mu.next = make(chan struct{})
}

func (w *watch) now() (uint64, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.epoch, w.mu.next
}

// Changes is what a Watch returns.
type Changes struct {
	Epoch  uint64            // pass it to the next Watch
	States map[string]string // state of each key asked about, by the name it was asked by; "" where there is no such key
}

// maxWatched bounds the keys of one Watch.
const maxWatched = 1024

// Watch waits until anything that decisions depend on is not as it was at epoch after, or ctx is done, and returns the states of keys. 0 waits for nothing. Grants
// that expire and keys whose time has come are changes only once something is done about them. Not recorded. Errors: ErrValidation, and those that are
// ErrKeyUnavailable; not ctx's.
func (m *Manager) Watch(ctx context.Context, after uint64, keys []string) (Changes, error) {
	if len(keys) > maxWatched {
		return Changes{}, fault(ErrValidation, "at most %d keys can be watched at a time", maxWatched)
	}
	epoch, next := m.watch.now()
	if epoch == after {
		select {
		case <-next:
		case <-ctx.Done():
		}
		epoch, _ = m.watch.now()
	}
	out := Changes{Epoch: epoch, States: make(map[string]string, len(keys))}
	ctx = context.WithoutCancel(ctx)
	for _, name := range keys {
		k, err := m.resolve(ctx, name, true)
		switch {
		case err == nil:
			out.States[name] = k.record.State
		case classOf(err) == ErrNotFound:
			out.States[name] = ""
		default:
			return Changes{}, err
		}
	}
	return out, nil
}
