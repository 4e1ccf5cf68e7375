package transport

import (
	"sync/atomic"
	"time"
)

// lease is the lead while its holder handles a request. The watch takes it away from a holder that takes too long.
//
// state is 0 when no request is being handled under the lead, else the number of the request. INVARIANT: whoever changes state from a request's
// number to 0 holds the lead afterwards: the reader when it finishes, or the watch, which passes it on.
type lease struct {
	number  uint64 // of the last request; the leader's alone
	state   atomic.Uint64
	resting atomic.Bool // the watch sleeps until woken
	wake    chan struct{}
}

// begin starts the clock for a request and returns its token.
func (s *lease) begin() uint64 {
	s.number++
	token := s.number
	s.state.Store(token)
	s.rouse()
	return token
}

// rouse ends the rest of the watch.
func (s *lease) rouse() {
	if s.resting.Load() && s.resting.CompareAndSwap(true, false) {
		s.wake <- struct{}{}
	}
}

// finish ends the request. False: the lead was taken away meanwhile.
func (s *lease) finish(token uint64) bool { return s.state.CompareAndSwap(token, 0) }

// watch takes the lead from a reader that has had one request for longer than patience. It looks twice, patience apart, and rests when nothing
// happens, so that an idle mount costs nothing. It also tells idle processors to poll or to halt.
func (l *Loop) watch() {
	defer l.readers.Done()
	defer l.idling.close()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	quiet, last, seen := 0, uint64(0), uint64(0)
	l.idling.begin(time.Now(), 0)
	for {
		select {
		case <-l.ended:
			return
		case <-timer.C:
		}
		requests := l.stats.requests.Load()
		l.pace(requests)
		current := l.lease.state.Load()
		if current != 0 && current == last && l.lease.state.CompareAndSwap(current, 0) {
			l.stats.stolen.Add(1)
			l.handOver()
			current = 0
		}
		if current == 0 && last == 0 && requests == seen {
			quiet++
		} else {
			quiet = 0
		}
		last, seen = current, requests
		if quiet >= restAfter {
			if !l.rest() {
				return
			}
			l.idling.begin(time.Now(), requests)
		}
		timer.Reset(patience)
	}
}

// pace has idle processors do what fits the number of requests so far.
func (l *Loop) pace(requests uint64) {
	if err := l.idling.look(time.Now(), requests); err != nil {
		l.log.Error("idle processors", "error", err)
	}
}

// restAfter is after how many looks that found nothing the watch rests.
const restAfter = 20

// rest sleeps until a request begins. False: the connection is over.
func (l *Loop) rest() bool {
	l.lease.resting.Store(true)
	if l.lease.state.Load() != 0 && l.lease.resting.CompareAndSwap(true, false) {
		return true // one began in between and may have missed that we rest
	}
	select {
	case <-l.lease.wake:
		return true
	case <-l.ended:
		return false
	}
}
