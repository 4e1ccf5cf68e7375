package keyring

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/fair"
	"github.com/kmsfs/kmsfs/meta"
)

// lease is the keys of one zone for a time, or the memory of a failure to get them.
type lease struct {
	id  meta.ZoneID
	now func() time.Time

	mu      sync.Mutex
	current *granted         // guarded by mu; nil: no keys
	renewAt time.Time        // guarded by mu; from when on a use renews
	failed  error            // guarded by mu; why there are no keys, believed until retryAt
	retryAt time.Time        // guarded by mu
	running chan struct{}    // guarded by mu; closed when the unwrap that runs is over
	turn    *fair.Turn[user] // guarded by mu; of the unwrap that runs
	ended   error            // guarded by mu; the lease was taken away and grants nothing more
	before  *lease           // guarded by mu; what Refresh replaced: its keys may still be in use
}

// granted is a set of keys and until when it may be used.
type granted struct {
	keys  *meta.ZoneKeys
	until atomic.Int64          // UnixNano of the clock
	ended atomic.Pointer[error] // why it may not be used before that either
	now   func() time.Time
}

// valid is meta.ZoneKeys.Valid.
func (g *granted) valid() error {
	if err := g.ended.Load(); err != nil {
		return *err
	}
	if g.now().UnixNano() >= g.until.Load() {
		return meta.ErrKeyUnavailable
	}
	return nil
}

// use returns the keys if they may be used, and whether they should be renewed. With neither keys nor an error they must be fetched.
func (l *lease) use(now time.Time) (keys *meta.ZoneKeys, renew bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return nil, false, l.ended
	}
	failing := l.failed != nil && now.Before(l.retryAt)
	if g := l.current; g != nil && g.valid() == nil {
		return g.keys, !failing && !now.Before(l.renewAt), nil
	}
	l.current = nil
	if failing {
		return nil, false, l.failed
	}
	return nil, false, nil
}

// begin returns the channel and the turn of the unwrap that runs; mine if the caller has to run it.
func (l *lease) begin() (done <-chan struct{}, t *fair.Turn[user], mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		return l.running, l.turn, false
	}
	l.running, l.turn = make(chan struct{}), fair.NewTurn[user]()
	return l.running, l.turn, true
}

// over ends the running unwrap. Called with mu held.
func (l *lease) over() {
	close(l.running)
	l.running = nil
}

// grant installs keys just unwrapped. Keys that are in use already stay and live longer, so that what others made of them stays useful.
func (l *lease) grant(keys *meta.ZoneKeys, renewAt, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.over()
	if l.ended != nil {
		return
	}
	l.failed, l.renewAt = nil, renewAt
	if g := l.current; g != nil && g.valid() == nil {
		g.until.Store(until.UnixNano())
		return
	}
	g := &granted{keys: keys, now: l.now}
	g.until.Store(until.UnixNano())
	keys.Valid = g.valid
	l.current = g
}

// fail remembers a failure. A refusal takes the keys away at once; they outlive any other failure until their time is over.
func (l *lease) fail(err error, retryAt time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.over()
	l.failed, l.retryAt = err, retryAt
	if l.current != nil && isRefusal(err) {
		l.current.ended.Store(&err)
		l.current = nil
	}
}

// end takes the keys away for ever.
func (l *lease) end(why error) {
	for l != nil {
		l = l.endOne(why)
	}
}

// endOne takes the keys of one lease away, and returns the one that it replaced.
func (l *lease) endOne(why error) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = why
	if l.current != nil {
		l.current.ended.Store(&why)
		l.current = nil
	}
	before := l.before
	l.before = nil
	return before
}

// expire drops keys whose time is over, so that an idle zone keeps none in memory.
func (l *lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil && l.current.valid() != nil {
		l.current = nil
	}
	if l.before != nil && l.before.idle() {
		l.before = nil
	}
}

// idle says that nothing is held any more, here or in what the lease replaced.
func (l *lease) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (l.current == nil || l.current.valid() != nil) && l.running == nil && (l.before == nil || l.before.idle())
}
