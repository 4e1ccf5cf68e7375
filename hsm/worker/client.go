package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/awake"
)

// Client is the token in the worker. It implements hsm.Token and is safe for
// concurrent use.
type Client struct {
	cfg    Config // PIN is our own copy
	places *semaphore.Weighted
	quit   chan struct{} // closed by Close
	done   chan struct{} // closed when the supervisor has ended
	life   context.Context
	end    context.CancelFunc

	mu struct {
		sync.Mutex
		proc     *process      // nil while there is none to speak to
		change   chan struct{} // closed and replaced when anything here changes
		down     error         // why there is none, if starting one failed
		starts   int
		checking bool // a health check is under way
	}
}

var _ hsm.Token = (*Client)(nil)

// Start starts the worker program and waits until its token is open. Errors are
// those of opening a token (hsm.ErrPIN, hsm.ErrLocked, hsm.ErrModule,
// hsm.ErrTokenAway, hsm.ErrUnfit), hsm.ErrModule also if the program cannot be
// started. No process is left behind then.
func Start(ctx context.Context, cfg Config) (*Client, error) {
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
		return nil, fmt.Errorf("%w: no PIN given: %w", hsm.ErrPIN, err)
	}
	cfg.PIN = pin
	c := &Client{
		cfg:    cfg,
		places: semaphore.NewWeighted(maxInFlight),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.mu.change = make(chan struct{})
	go c.supervise()
	ctx, cancel := awake.WithTimeout(ctx, cfg.OpenTimeout)
	defer cancel()
	if _, err := c.current(ctx, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// GenerateKey implements hsm.Token. When the worker dies meanwhile it is not
// repeated: hsm.ErrTokenAway, and FindKey tells what came of it.
func (c *Client) GenerateKey(ctx context.Context, id hsm.KeyID, label string) (hsm.KeyInfo, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.KeyInfo{}, fmt.Errorf("generate key %s: %w", id, err)
	}
	rep, _, err := c.call(ctx, &request{Op: opGenerate, Key: id, Label: label}, nil, once)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	return rep.key(id)
}

// FindKey implements hsm.Token.
func (c *Client) FindKey(ctx context.Context, id hsm.KeyID) (hsm.KeyInfo, error) {
	rep, _, err := c.call(ctx, &request{Op: opFind, Key: id}, nil, twice)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	return rep.key(id)
}

// Encrypt implements hsm.Token.
func (c *Client) Encrypt(ctx context.Context, id hsm.KeyID, plaintext, aad []byte) (hsm.Sealed, error) {
	if err := hsm.CheckEncrypt(plaintext, aad); err != nil {
		return hsm.Sealed{}, fmt.Errorf("encrypt with key %s: %w", id, err)
	}
	rep, _, err := c.call(ctx, &request{Op: opEncrypt, Key: id, AAD: aad}, plaintext, twice)
	if err != nil {
		return hsm.Sealed{}, err
	}
	if rep.Sealed == nil {
		return hsm.Sealed{}, errReply
	}
	return *rep.Sealed, nil
}

// Decrypt implements hsm.Token.
func (c *Client) Decrypt(ctx context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	mechanism, nonce := hsm.AESGCM, gcmNonce
	if s.Mechanism == hsm.XAES256GCM { // of a key that was imported from an embedded token
		mechanism, nonce = hsm.XAES256GCM, hsm.XAESNonceSize
	}
	if err := hsm.CheckDecrypt(s, aad, mechanism, nonce); err != nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", id, err)
	}
	_, plain, err := c.call(ctx, &request{Op: opDecrypt, Key: id, AAD: aad, Sealed: &s}, nil, twice)
	if err != nil {
		return nil, err
	}
	if len(plain) != len(s.Ciphertext)-hsm.TagSize {
		clear(plain)
		return nil, errReply
	}
	return plain, nil
}

// DestroyKey implements hsm.Token. When the worker dies meanwhile it is not
// repeated: hsm.ErrTokenAway, and FindKey tells what came of it.
func (c *Client) DestroyKey(ctx context.Context, id hsm.KeyID) error {
	_, _, err := c.call(ctx, &request{Op: opDestroy, Key: id}, nil, once)
	return err
}

// Info implements hsm.Token.
func (c *Client) Info(ctx context.Context) (hsm.Info, error) {
	rep, _, err := c.call(ctx, &request{Op: opInfo}, nil, twice)
	if err != nil {
		return hsm.Info{}, err
	}
	if rep.Info == nil {
		return hsm.Info{}, errReply
	}
	return *rep.Info, nil
}

const (
	gcmNonce = 12 // IV of hsm.AESGCM, in bytes

	once, twice = 1, 2 // how often a request may be sent
)

// errReply: the worker answered something else than was asked. It is an error of
// the worker program, not of the token.
var errReply = fmt.Errorf("%w: the HSM worker's answer does not fit the question", hsm.ErrModule)

func (r *reply) key(id hsm.KeyID) (hsm.KeyInfo, error) {
	if r.Key == nil || r.Key.ID != id {
		return hsm.KeyInfo{}, errReply
	}
	return *r.Key, nil
}

// call sends a request to the present process, at most sends times in all if
// processes die of it or beside it.
func (c *Client) call(ctx context.Context, req *request, secret []byte, sends int) (*reply, []byte, error) {
	limit := c.cfg.CallTimeout
	if sends == once {
		limit = max(limit, c.cfg.OpenTimeout)
	}
	ctx, cancel := awake.WithTimeout(ctx, limit)
	defer cancel()
	if err := c.places.Acquire(ctx, 1); err != nil {
		return nil, nil, fmt.Errorf("%s: wait for the HSM worker: %w", req.Op, hsm.ContextError(ctx))
	}
	defer c.places.Release(1)
	for p := (*process)(nil); ; {
		var err error
		if p, err = c.current(ctx, p); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", req.Op, err)
		}
		rep, out, err := p.ask(ctx, req, secret)
		switch {
		case errors.Is(err, errUnsent):
			continue
		case errors.Is(err, errDied) && sends > 1:
			sends--
			continue
		case errors.Is(err, errDied):
			return nil, nil, fmt.Errorf("%s: %w: %w before it answered", req.Op, hsm.ErrTokenAway, err)
		case errors.Is(err, hsm.ErrTimeout):
			c.suspect(p)
		}
		if err != nil {
			clear(out)
			return nil, nil, err
		}
		return rep, out, nil
	}
}

// current waits until there is a process to speak to, another one than dead.
// While starting one fails it returns why, at once.
func (c *Client) current(ctx context.Context, dead *process) (*process, error) {
	for {
		c.mu.Lock()
		p, down, change := c.mu.proc, c.mu.down, c.mu.change
		c.mu.Unlock()
		if p != nil && p != dead || down != nil {
			return p, down
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the HSM worker: %w", hsm.ContextError(ctx))
		}
	}
}

// suspect asks a process that let a call time out for Info, and kills it if that
// is not answered either: a module that hangs cannot be interrupted.
func (c *Client) suspect(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.checking || c.mu.proc != p {
		return
	}
	c.mu.checking = true
	go func() {
		ctx, cancel := awake.WithTimeout(c.life, c.cfg.CallTimeout)
		defer cancel()
		_, _, err := p.ask(ctx, &request{Op: opInfo}, nil)
		if errors.Is(err, hsm.ErrTimeout) {
			c.cfg.Log.Warn("the HSM worker hangs, starting another", "pid", p.cmd.Process.Pid)
			p.kill()
		}
		c.mu.Lock()
		c.mu.checking = false
		c.mu.Unlock()
	}()
}

// PID is the process id of the present worker, 0 if there is none.
func (c *Client) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.proc == nil {
		return 0
	}
	return c.mu.proc.cmd.Process.Pid
}

// Starts is how many workers have opened the token so far; 1 after Start.
func (c *Client) Starts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.starts
}

// Close ends the worker and wipes the PIN. Calls in flight fail with
// hsm.ErrTokenAway or hsm.ErrClosed. It returns when the process is gone, which
// takes stopGrace at most even if the module hangs.
func (c *Client) Close() error {
	c.mu.Lock()
	select {
	case <-c.quit:
	default:
		close(c.quit)
		c.end()
	}
	c.mu.Unlock()
	<-c.done
	return nil
}

// stopGrace is how long a worker may take to close its token.
const stopGrace = 3 * time.Second
