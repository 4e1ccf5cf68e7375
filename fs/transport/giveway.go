package transport

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	longYield  = time.Millisecond // a program between two quick requests is faster; whoever takes longer computes
	firstPause = 64               // requests for which the leader does not give way after a long yield
	lastPause  = 8192
	forgiven   = 1024 // requests without a long yield after which the next pause is the first again
)

// giveWay lets a polling leader give its processor to whoever waits for it: most often the program that was just answered, which runs where it was woken. It would else wait until the leader ends polling.
// A program that computes would keep the processor for a time slice, and with it the next request: then the leader pauses, for longer each time. Used by the leader only.
type giveWay struct {
	skip  int // requests to come for which it does not
	pause int // the last one
	good  int // requests since
}

// next tells whether the leader gives way while it waits for the next request.
func (g *giveWay) next() bool {
	if g.skip > 0 {
		g.skip--
		return false
	}
	if g.good++; g.good >= forgiven {
		g.pause = 0
	}
	return true
}

// took learns how long the processor was given away. False: no more for this request.
func (g *giveWay) took(d time.Duration) bool {
	if d < longYield {
		return true
	}
	g.pause = min(max(2*g.pause, firstPause), lastPause)
	g.skip, g.good = g.pause, 0
	return false
}

// yield runs what else waits for this processor.
func yield() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
