//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/awake"
)

// Token is an open PKCS#11 token. It implements hsm.Token and is safe for
// concurrent use; MaxSessions calls are in the module at once, others wait.
type Token struct {
	cfg   Config
	pin   *locked.Buffer
	mod   *module
	known known // set by Open, constant afterwards

	imports bool // so is this: the token takes keys

	// gate is entered with weight 1 by a call and with weight width by what
	// must be alone in the module: reconnecting, closing, and making and
	// destroying keys (SoftHSM fails calls that run beside these).
	gate    *semaphore.Weighted
	width   int64
	runners *runners

	mu struct {
		sync.Mutex
		conn   *conn                     // nil if the last attempt to connect failed
		broken error                     // why conn is of no use; nil if it is in order
		final  error                     // never connect again: the PIN was refused
		next   time.Time                 // no attempt to connect before
		pause  time.Duration             // between attempts
		made   int                       // connections so far
		seen   map[hsm.KeyID]hsm.KeyInfo // keys, to be found again
		shut   bool
	}
}

var _ hsm.Token = (*Token)(nil)

// Pauses between attempts to connect to a token that is away. Calls fail at
// once meanwhile.
const (
	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

// Open loads the module, logs in and probes the token: it must make keys that
// cannot be read, and refuse what is not authentic. Errors: hsm.ErrModule,
// hsm.ErrTokenAway (no such token; the message lists those there are),
// hsm.ErrPIN, hsm.ErrLocked, hsm.ErrUnfit (the probe failed, or the token has no
// sentinel and Initialize is not set), hsm.ErrTimeout.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if cfg.CallTimeout <= 0 {
		cfg.CallTimeout = DefaultCallTimeout
	}
	if cfg.OpenTimeout <= 0 {
		cfg.OpenTimeout = DefaultOpenTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	pin, err := cfg.PIN.Clone()
	if err != nil {
		return nil, fmt.Errorf("open PKCS#11 token: %w: no PIN given: %w", hsm.ErrPIN, err)
	}
	cfg.PIN = nil
	ctx, cancel := awake.WithTimeout(ctx, cfg.OpenTimeout)
	defer cancel()
	t := &Token{cfg: cfg, pin: pin, runners: newRunners()}
	t.mu.seen = make(map[hsm.KeyID]hsm.KeyInfo)
	_, err = bounded(ctx, func(fn func()) { go fn() }, func() (*Token, error) { return t, t.open() }, func(late *Token) { late.Close() })
	if err != nil {
		return nil, fmt.Errorf("open PKCS#11 token: %w", err)
	}
	return t, nil
}

// open is the part of Open that is in the module.
func (t *Token) open() (err error) {
	defer func() {
		if err != nil {
			t.pin.Close()
		}
	}()
	if t.mod, err = loadModule(t.cfg.Module); err != nil {
		return err
	}
	c, err := t.mod.connect(&t.cfg, t.pin.Bytes())
	if err != nil {
		return err
	}
	if t.known, err = c.firstSentinel(t.cfg.Initialize); err == nil {
		err = c.probe()
	}
	if err != nil {
		c.close()
		return err
	}
	t.imports = c.takesKeys()
	t.width = int64(t.cfg.MaxSessions)
	if t.width <= 0 {
		if t.width = 8; t.mod.soft {
			t.width = 1
		}
	}
	t.gate = semaphore.NewWeighted(t.width)
	t.mu.conn, t.mu.made = c, 1
	return nil
}

// bounded has run run fn beside the caller and waits for it until ctx is over; the result
// is then handed to discard when it comes, unless fn failed.
func bounded[T any](ctx context.Context, run func(func()), fn func() (T, error), discard func(T)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done := make(chan outcome, 1)
	run(func() {
		v, err := fn()
		done <- outcome{v, err}
	})
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil && discard != nil {
				discard(o.v)
			}
		}()
		var none T
		return none, hsm.ContextError(ctx)
	}
}

// task is one call of a Token. It may outlive the caller, so it owns its
// arguments.
type task[T any] struct {
	// run does the work in a session of its own.
	run func(c *conn, s p11.SessionHandle) (T, error)
	// alone says that no other call may be in the module.
	alone bool
	// blob says that the caller's ciphertext may be what makes it fail.
	blob bool
	// begun is set by run when it must not be repeated any more; nil if
	// repeating is always harmless.
	begun *atomic.Bool
	// done is called when run is not running and will not be any more.
	done func()
	// discard wipes a result that comes too late.
	discard func(T)
}

// do runs a task within the limits of ctx and of a call.
func do[T any](ctx context.Context, t *Token, k task[T]) (T, error) {
	limit := t.cfg.CallTimeout
	if k.alone {
		limit = max(limit, t.cfg.OpenTimeout)
	}
	ctx, cancel := awake.WithTimeout(ctx, limit)
	defer cancel()
	return bounded(ctx, t.runners.run, func() (T, error) {
		if k.done != nil {
			defer k.done()
		}
		return twice(ctx, t, k)
	}, k.discard)
}

// twice runs a task, and once more after reconnecting if the connection was
// lost. It takes as long as the module does.
func twice[T any](ctx context.Context, t *Token, k task[T]) (T, error) {
	var none T
	for again := true; ; again = false {
		if err := t.ready(ctx); err != nil {
			return none, err
		}
		v, err := once(ctx, t, k)
		if err == nil || !errors.Is(err, errLost) {
			return v, err
		}
		if !again || k.begun != nil && k.begun.Load() {
			return none, fmt.Errorf("%w: %w", hsm.ErrTokenAway, err)
		}
	}
}

// once runs a task on the present connection.
func once[T any](ctx context.Context, t *Token, k task[T]) (v T, err error) {
	weight := int64(1)
	if k.alone {
		weight = t.width
	}
	if err := t.gate.Acquire(ctx, weight); err != nil {
		return v, fmt.Errorf("wait for a session: %w", hsm.ContextError(ctx))
	}
	defer t.gate.Release(weight)
	t.mu.Lock()
	c, broken, shut := t.mu.conn, t.mu.broken, t.mu.shut
	t.mu.Unlock()
	if shut {
		return v, hsm.ErrClosed
	}
	if c == nil || broken != nil {
		return v, errors.Join(errLost, broken)
	}
	s, err := c.take()
	if err == nil {
		v, err = k.run(c, s)
		err = c.judge(s, t.known, err, k.blob)
		c.give(s, err == nil || errors.Is(err, hsm.ErrAuth))
	}
	if errors.Is(err, errLost) {
		t.lose(c, err)
	}
	return v, err
}

// judge decides what a failed call means: see the package's comment.
func (c *conn) judge(s p11.SessionHandle, k known, err error, blob bool) error {
	if err == nil || code(err) == p11.CKR_OK && !lost(err) {
		return err // nil, or an error of our own
	}
	if lost(err) {
		return errors.Join(errLost, err)
	}
	if kerr := c.check(s, k); kerr != nil {
		return errors.Join(errLost, err, kerr)
	}
	if blob && maybeBlob(err) {
		return fmt.Errorf("%w (%w)", hsm.ErrAuth, err)
	}
	return fmt.Errorf("%w for this call, though it answers others: %w", hsm.ErrUnfit, err)
}

// lose marks a connection as of no use.
func (t *Token) lose(c *conn, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.conn == c && t.mu.broken == nil {
		t.mu.broken = why
		t.cfg.Log.Warn("connection to the token lost", "label", t.cfg.TokenLabel, "error", why)
	}
}

// ready makes sure that there is a connection, by making one if need and time
// be. While the token is away and the next attempt is not due it fails at once.
func (t *Token) ready(ctx context.Context) error {
	if ok, err := t.state(); ok || err != nil {
		return err
	}
	if err := t.gate.Acquire(ctx, t.width); err != nil {
		return fmt.Errorf("wait to reconnect: %w", hsm.ContextError(ctx))
	}
	defer t.gate.Release(t.width)
	if ok, err := t.state(); ok || err != nil { // somebody else was faster
		return err
	}
	return t.reconnect()
}

// state is whether there is a connection, and if not, why none can be made now.
func (t *Token) state() (ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.shut:
		return false, hsm.ErrClosed
	case t.mu.final != nil:
		return false, t.mu.final
	case t.mu.conn != nil && t.mu.broken == nil:
		return true, nil
	case time.Now().Before(t.mu.next):
		return false, t.mu.broken
	}
	return false, nil
}

// reconnect makes a new connection; the caller is alone in the module.
func (t *Token) reconnect() error {
	t.mu.Lock()
	old := t.mu.conn
	t.mu.conn = nil
	t.mu.Unlock()
	if old != nil {
		old.close()
	}
	c, err := t.mod.connect(&t.cfg, t.pin.Bytes())
	if err == nil {
		if err = c.sameSentinel(t.known); err != nil {
			c.close()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrLocked) {
			t.mu.final = err
		}
		t.mu.pause = min(maxPause, max(minPause, 2*t.mu.pause))
		t.mu.next = time.Now().Add(t.mu.pause)
		t.mu.broken = err
		return err
	}
	t.mu.conn, t.mu.broken, t.mu.pause, t.mu.next = c, nil, 0, time.Time{}
	t.mu.made++
	t.cfg.Log.Info("connected to the token again", "label", t.cfg.TokenLabel, "connections", t.mu.made)
	return nil
}

// Connections is how many connections were made so far: 1 after Open, one more
// for each time the token was lost and found again.
func (t *Token) Connections() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.made
}

// closeGrace is how long Close waits for calls in the module.
const closeGrace = 2 * time.Second

// Close implements hsm.Token. If a call hangs in the module for more than two
// seconds, the module stays initialised and the PIN in memory until the process
// ends.
func (t *Token) Close() error {
	t.mu.Lock()
	shut := t.mu.shut
	t.mu.shut = true
	t.mu.Unlock()
	if shut {
		return nil
	}
	close(t.runners.quit)
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if err := t.gate.Acquire(ctx, t.width); err != nil {
		return fmt.Errorf("close PKCS#11 token: a call hangs in the module: %w", hsm.ErrTimeout)
	}
	defer t.gate.Release(t.width)
	t.mu.Lock()
	c := t.mu.conn
	t.mu.conn = nil
	t.mu.Unlock()
	if c != nil {
		c.close()
	}
	t.pin.Close()
	return nil
}
