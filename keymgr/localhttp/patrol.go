package localhttp

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patrolEvery is how often connections are looked at whose request takes long: a client that went away is noticed after twice that at most.
const patrolEvery = 200 * time.Millisecond

// patrol ends the contexts of connections whose clients went away while they wait for an answer.
func (s *Server) patrol(ctx context.Context) {
	tick := time.NewTicker(patrolEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for c := range s.mu.conns {
			if turn := c.turn.Load(); turn != c.seen {
				c.seen = turn // it has begun since
			} else if c.state.Load() == busy && gone(c.net) {
				c.end()
			}
		}
		s.mu.Unlock()
	}
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
