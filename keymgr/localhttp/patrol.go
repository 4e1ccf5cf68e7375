package localhttp

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patrolEvery is how often connections are looked at whose request takes long: a client that went away is noticed after twice that at most.
const patrolEvery = 200 * time.Millisecond

// patrol ends the contexts of connections whose clients went away while they wait for an answer. While no request comes it sleeps.
func (s *Server) patrol(ctx context.Context) {
	tick := time.NewTimer(patrolEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
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

// look is one round. It returns whether there were requests since the one before, or are any.
func (s *Server) look() (requests bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		waits := c.state.Load() == busy
		if turn := c.turn.Load(); turn != c.seen {
			c.seen, requests = turn, true // it has begun since
		} else if waits && gone(c.net) {
			c.end()
		}
		requests = requests || waits
	}
	return requests
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
