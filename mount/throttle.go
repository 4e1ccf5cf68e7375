package mount

import "time"

// tellEvery is how often a client hears of progress at most.
const tellEvery = 100 * time.Millisecond

// throttle lets one call through now and then. It belongs to one goroutine.
type throttle struct{ last time.Time }

func (t *throttle) due() bool {
	if time.Since(t.last) < tellEvery {
		return false
	}
	t.last = time.Now()
	return true
}
