package fs

import (
	"context"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/keymgr"
)

// patience is how long a request runs on after its caller was interrupted. Nearly every request is done long before. Programs interrupt their
// own system calls all the time (timers, the Go runtime's preemption) and most of them do not expect EINTR from a disk filesystem, so only
// waits that drag on, such as for an unreachable HSM, end early.
const patience = time.Second

// requestContext is the context of one FUSE request: it is done when the kernel interrupts the request and patience is over. It costs
// nothing until somebody waits on it. finish must be called when the request ends.
type requestContext struct {
	context.Context
	cancel <-chan struct{}  // closed by the kernel's interrupt
	by     access.Requester // whose request it is

	mu       sync.Mutex
	done     chan struct{} // made by the first Done
	finished chan struct{} // made with done; closed by finish
	err      error
}

// request returns the context of the request that cancel and in belong to.
func request(cancel <-chan struct{}, in *fuse.InHeader) *requestContext {
	return &requestContext{Context: context.Background(), cancel: cancel, by: requester(in)}
}

// Value knows whose request it is (keymgr.OnBehalf).
func (c *requestContext) Value(key any) any {
	if key == (keymgr.OnBehalf{}) {
		return c.by.UID
	}
	return c.Context.Value(key)
}

// Done returns a channel that is closed when the request is to be given up.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done, c.finished = make(chan struct{}), make(chan struct{})
		go c.watch(c.done, c.finished)
	}
	return c.done
}

// Err returns context.Canceled once the request is given up.
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *requestContext) watch(done chan<- struct{}, finished <-chan struct{}) {
	select {
	case <-finished:
		return
	case <-c.cancel:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-finished:
		return
	case <-timer.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = context.Canceled
	close(done)
}

// finish ends the watch. The cancel channel belongs to the next request afterwards.
func (c *requestContext) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished != nil {
		close(c.finished)
		c.finished = nil
	}
}

// callersContext is the context of what is done in the name of who makes a request.
type callersContext struct {
	context.Context
	in *fuse.InHeader
}

// inNameOf is ctx for what asks the key manager about keys of files in the name of who makes the request, not in the daemon's. in has to stay.
func inNameOf(ctx context.Context, in *fuse.InHeader) context.Context {
	return &callersContext{ctx, in}
}

// Value knows the caller (keymgr.InNameOf).
func (n *callersContext) Value(key any) any {
	if key == (keymgr.InNameOf{}) {
		return keymgr.Caller{UID: int(n.in.Uid), GID: int(n.in.Gid), PID: int(n.in.Pid), Via: keymgr.ViaFileDaemon}
	}
	return n.Context.Value(key)
}
