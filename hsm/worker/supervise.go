package worker

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/awake"
)

// Pauses between starts: none after a process that lived at least steady,
// doubling up to maxPause after shorter lives and failed starts.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
	steady   = 5 * time.Second
)

// supervise keeps one process running until Close or until the token refuses
// the PIN. It stays on its thread: processes die with the thread that started
// them.
func (c *Client) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	defer c.cfg.PIN.Close()
	for pause := time.Duration(0); ; {
		began := time.Now()
		p, err := c.start()
		if err == nil {
			c.publish(p)
			err = c.watch(p)
		}
		switch {
		case c.closing():
			c.down(hsm.ErrClosed)
			return
		case errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrLocked):
			c.down(err)
			<-c.quit
			c.down(hsm.ErrClosed)
			return
		case err != nil: // no process came up
			c.cfg.Log.Warn("the HSM worker did not start", "error", err)
			c.down(err)
		case time.Since(began) >= steady:
			pause = 0
			continue
		}
		c.sleep(pause)
		pause = min(maxPause, max(minPause, 2*pause))
	}
}

// start starts a process and has it open the token.
func (c *Client) start() (*process, error) {
	p, err := spawn(&c.cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := awake.WithTimeout(c.life, c.cfg.OpenTimeout)
	defer cancel()
	req := &request{Op: opOpen, Open: &openHead{
		Module:      c.cfg.Module,
		TokenLabel:  c.cfg.TokenLabel,
		Serial:      c.cfg.Serial,
		Initialize:  c.cfg.Initialize,
		MaxSessions: c.cfg.MaxSessions,
		CallTimeout: c.cfg.CallTimeout.Milliseconds(),
		OpenTimeout: c.cfg.OpenTimeout.Milliseconds(),
	}}
	_, _, err = p.ask(ctx, req, c.cfg.PIN.Bytes())
	if err == nil {
		return p, nil
	}
	p.kill()
	<-p.dead
	if errors.Is(err, errDied) {
		err = fmt.Errorf("%w: %w while it opened the token", hsm.ErrTokenAway, err)
	}
	return nil, err
}

// watch waits until p is dead or Close ends it.
func (c *Client) watch(p *process) error {
	select {
	case <-p.dead:
		if !c.closing() {
			c.cfg.Log.Warn("the HSM worker died, starting another", "pid", p.cmd.Process.Pid, "state", p.cmd.ProcessState.String())
		}
		c.unpublish()
	case <-c.quit:
		c.down(hsm.ErrClosed)
		p.stop(stopGrace)
	}
	return nil
}

func (c *Client) publish(p *process) {
	c.set(func() {
		c.mu.proc, c.mu.down = p, nil
		c.mu.starts++
		// Only the first process may put the sentinel into the token.
		c.cfg.Initialize = false
	})
}

// unpublish makes calls wait for the next process.
func (c *Client) unpublish() { c.set(func() { c.mu.proc, c.mu.down = nil, nil }) }

// down makes calls fail with err until a process comes up.
func (c *Client) down(err error) { c.set(func() { c.mu.proc, c.mu.down = nil, err }) }

func (c *Client) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	close(c.mu.change)
	c.mu.change = make(chan struct{})
}

func (c *Client) closing() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

func (c *Client) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.quit:
	}
}
