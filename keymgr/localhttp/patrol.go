package localhttp

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patrolEvery is how often connections are looked at that have a request: one whose request takes as long is watched for its client going away.
const patrolEvery = 200 * time.Millisecond

// patrol ends the contexts of connections whose clients went away while they wait for an answer. While no request begins it sleeps, also where some wait long.
func (s *Server) patrol(ctx context.Context) {
	gone := make(chan struct{}, 1)
	if h, err := newHangups(); err == nil { // else all that wait are looked at again and again
		s.hangups = h
		defer h.close()
		go h.run(gone)
	}
	tick := time.NewTimer(patrolEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-gone:
		case <-s.requested:
		}
		for s.look() || s.off() {
			tick.Reset(patrolEvery)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// off ends the patrol until the next request. true: one has come before that could wake it.
func (s *Server) off() bool {
	s.watched.Store(false)
	return s.look() && s.watched.CompareAndSwap(false, true)
}

// watch wakes the patrol.
func (s *Server) watch() {
	if !s.watched.Load() && s.watched.CompareAndSwap(false, true) {
		select {
		case s.requested <- struct{}{}: // there is room: the last one was taken before watched was false again
		default: // nobody patrols
		}
	}
}

// look is one round. It returns whether another is needed: requests have begun since the one before, or wait and cannot be watched.
func (s *Server) look() (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		turn := c.turn.Load()
		switch {
		case turn != c.seen:
			c.seen, again = turn, true
		case c.state.Load() != busy:
		case gone(c.net):
			c.end()
		case !c.hangup:
			c.hangup = s.hangups != nil && s.hangups.add(c.net)
			again = again || !c.hangup
		}
	}
	return again
}

// gone says whether the other end of a connection is closed, at least for sending.
func gone(nc any) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	hung := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(p, 0); err == nil && n > 0 {
			hung = p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
		}
	})
	return hung || err != nil
}
