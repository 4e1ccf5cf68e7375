package transport

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// keepAgain is how many syncs are handed over after one that kept others waiting.
const keepAgain = 32

// syncPolicy decides whether the leader keeps the lead over a sync. Handing it over costs two task switches, and the reader that slept meanwhile has to be woken for the
// next request; so it is worth it only where somebody else has requests. That shows: something waits at the device when the sync is done, or the sync took so long that
// the lead was taken away, and who has it since has taken a request. A disk that was slow once is no reason by itself.
type syncPolicy struct{ handOver atomic.Int32 } // how many of the next ones are handed over

// keep tells whether the next sync is the leader's own. Called by the leader only.
func (p *syncPolicy) keep() bool {
	if p.handOver.Load() == 0 {
		return true
	}
	p.handOver.Add(-1)
	return false
}

// kept learns whether a sync that was kept was in the way of others. It may be called by a reader that has lost the lead over it.
func (p *syncPolicy) kept(inTheWay bool) {
	if inTheWay {
		p.handOver.Store(keepAgain)
	}
}

// isSync tells whether a request waits for the disk and does little else.
func isSync(opcode uint32) bool { return opcode == opFsync || opcode == opFsyncDir }

// waiting tells whether the device has a request.
func (l *Loop) waiting() bool {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}
