// Package awake bounds waiting by time in which this process could run. A time limit says that the other side is gone; when the machine itself stood still
// (a virtual machine paused or moved, a container frozen, a process stopped), the limit has passed on the wall and the answer is there all the same. A
// limit of this package is not used up by that: it is measured in parts, and a part that ends much too late counts little more than its length.
//
// It knows nothing of who waits for what. Everything is safe for concurrent use. CPU starvation is not taken for a pause unless it holds a timer up for
// longer than a part.
package awake

import (
	"context"
	"sync"
	"time"
)

// parts is how many parts a limit is measured in.
const parts = 8

// WithTimeout is context.WithTimeout with a limit of time awake: it ends d from now, later by what the machine stood still less one part (an eighth of d)
// each time. The context has no deadline of its own (see Left); its error is context.DeadlineExceeded as usual. cancel must be called.
func WithTimeout(ctx context.Context, d time.Duration) (_ context.Context, cancel context.CancelFunc) {
	inner, end := context.WithCancelCause(ctx)
	if d <= 0 {
		end(context.DeadlineExceeded)
		return limited{inner, &countdown{}}, func() {}
	}
	c := start(d, func() { end(context.DeadlineExceeded) })
	return limited{inner, c}, func() {
		c.stop()
		end(context.Canceled)
	}
}

// Left returns how long ctx may still last: the least of its limits of this package and its deadline. ok is false if it has neither.
func Left(ctx context.Context) (left time.Duration, ok bool) {
	if deadline, has := ctx.Deadline(); has {
		left, ok = time.Until(deadline), true
	}
	for l, is := ctx.Value(limitKey{}).(limited); is; l, is = l.Context.Value(limitKey{}).(limited) {
		if mine := l.limit.remaining(time.Now()); !ok || mine < left {
			left, ok = mine, true
		}
	}
	return max(left, 0), ok
}

// limited is a context with a limit, which it tells as the error of its end.
type limited struct {
	context.Context
	limit *countdown
}

type limitKey struct{}

func (c limited) Err() error {
	err := c.Context.Err()
	if err != nil && context.Cause(c.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}

func (c limited) Value(key any) any {
	if key == (limitKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// AfterFunc calls do in a goroutine of its own after d of time awake, unless stop is called before. d must be positive.
func AfterFunc(d time.Duration, do func()) (stop func()) { return start(d, do).stop }

func start(d time.Duration, do func()) *countdown {
	c := &countdown{left: d, part: max(d/parts, 1), do: do, began: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.part, c.tick)
	return c
}

// countdown is a limit that runs.
type countdown struct {
	part time.Duration
	do   func()

	mu    sync.Mutex
	timer *time.Timer   // guarded by mu, as what follows
	began time.Time     // the present part
	left  time.Duration // at its beginning
	ended bool
}

// tick ends a part and begins the next, or ends it all.
func (c *countdown) tick() {
	if c.next(time.Now()) {
		c.do()
	}
}

// next tells whether the limit has passed.
func (c *countdown) next(now time.Time) (passed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if c.left -= c.passed(now); c.left <= 0 {
		c.ended = true
		return true
	}
	c.began = now
	c.timer.Reset(min(c.part, c.left))
	return false
}

// passed returns what counts of the present part.
func (c *countdown) passed(now time.Time) time.Duration { return min(now.Sub(c.began), 2*c.part) }

func (c *countdown) remaining(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left - c.passed(now)
}

func (c *countdown) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.timer.Stop()
}
