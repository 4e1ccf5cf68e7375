package transport

import "time"

const (
	defaultPoll = 50 * time.Microsecond
	minPoll     = 3 * time.Microsecond
)

// pollWindow decides how long the leader polls before it sleeps. A request that came within the limit after the last answer opens the window
// wholly: the next one is likely to come as soon. One that came later halves it: so polling in vain costs a few per cent of a processor at
// most while requests trickle, and nothing while there are none.
type pollWindow struct {
	limit  time.Duration // 0: never poll
	window time.Duration
}

func newPollWindow(limit time.Duration, processors int) pollWindow {
	switch {
	case limit < 0 || processors < 2:
		return pollWindow{}
	case limit == 0:
		limit = defaultPoll
	}
	return pollWindow{limit: limit, window: minPoll}
}

// arrived learns how long after the last answer a request came.
func (w *pollWindow) arrived(gap time.Duration) {
	switch {
	case w.limit == 0:
	case gap <= w.limit:
		w.window = w.limit
	default:
		w.window = max(w.window/2, min(minPoll, w.limit))
	}
}
