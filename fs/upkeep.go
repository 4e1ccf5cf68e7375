package fs

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// atimeDelay is how long access times are gathered before they are written together.
const atimeDelay = time.Second

// gatherFor is how long orphans wait for others, to be released in one transaction: each would wake a thread otherwise, and compete with the program that
// removes files. manyOrphans do not wait.
const (
	gatherFor   = 10 * time.Millisecond
	manyOrphans = 256
)

// upkeep does what must not make a request wait. FORGET above all: it has no answer, it comes in the one goroutine that may be reading requests,
// and it must not wait for anything that another request does.
type upkeep struct {
	fs   *FS
	wake chan struct{} // capacity 1
	late chan struct{} // capacity 1; as wake, but gatherFor is soon enough
	soon chan struct{} // capacity 1; full when there is something to look after every atimeDelay
	quit chan struct{}
	done chan struct{} // closed when run has returned

	mu      sync.Mutex
	orphans []meta.Ino // guarded by mu; to be released
	stale   []meta.Ino // guarded by mu; the kernel's attributes of these are outdated
	smaller bool       // guarded by mu; there may be room to give back
	started bool       // guarded by mu
}

func newUpkeep(fs *FS) *upkeep {
	return &upkeep{fs: fs, wake: make(chan struct{}, 1), late: make(chan struct{}, 1), soon: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
}

func (u *upkeep) start() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.started {
		u.started = true
		go u.run()
	}
}

// stop ends the goroutine; what is queued stays queued.
func (u *upkeep) stop() {
	u.mu.Lock()
	started := u.started
	u.mu.Unlock()
	if started {
		close(u.quit)
		<-u.done
	}
}

// release queues an orphan that nothing uses any more.
func (u *upkeep) release(ino meta.Ino) {
	u.fs.atimes.drop(ino)
	u.mu.Lock()
	u.orphans = append(u.orphans, ino)
	n := len(u.orphans)
	u.mu.Unlock()
	switch {
	case n == 1:
		kick(u.late)
	case n%manyOrphans == 0:
		kick(u.wake)
	}
}

// outdated queues an inode whose attributes changed without a request that told the kernel so.
func (u *upkeep) outdated(ino meta.Ino) {
	u.mu.Lock()
	u.stale = append(u.stale, ino)
	u.mu.Unlock()
	kick(u.wake)
}

// shrunk notes that something was cut, punched or deleted: where space is short it is given back now.
func (u *upkeep) shrunk() {
	u.fs.space.deleted.Store(true)
	if !u.fs.space.short.Load() {
		return
	}
	u.mu.Lock()
	u.smaller = true
	u.mu.Unlock()
	kick(u.wake)
}

func kick(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (u *upkeep) run() {
	defer close(u.done)
	defer func() {
		if reason := recover(); reason != nil {
			u.fs.fatal(reason, debug.Stack())
		}
	}()
	ctx := context.Background()
	tick := time.NewTimer(atimeDelay)
	defer tick.Stop()
	var soon <-chan struct{} // nil while tick runs
	gather := time.NewTimer(gatherFor)
	defer gather.Stop()
	for {
		select {
		case <-u.quit:
			return
		case <-u.late:
			gather.Reset(gatherFor)
		case <-gather.C:
			u.drain(ctx)
		case <-u.wake:
			u.drain(ctx)
		case <-soon:
			soon = nil
			tick.Reset(atimeDelay)
		case <-tick.C:
			if err := u.fs.atimes.flush(ctx); err != nil {
				u.fs.failed("write access times", 0, err)
			}
			if _, err := u.fs.space.look(); err != nil {
				u.fs.failed("statfs", 0, err)
			}
			u.drain(ctx)
			if u.watches() {
				tick.Reset(atimeDelay)
			} else {
				soon = u.soon
			}
		}
	}
}

// watches tells that there is something to look after every atimeDelay: access times to be written, and space below, which others use as well, while files are
// open for writing, of which the page cache takes more without asking, or while it is short.
func (u *upkeep) watches() bool {
	return u.fs.atimes.count.Load() > 0 || u.fs.nodes.writers.Load() > 0 || u.fs.space.short.Load()
}

// drain works off the queues.
func (u *upkeep) drain(ctx context.Context) {
	u.mu.Lock()
	orphans, stale := u.orphans, u.stale
	u.orphans, u.stale = nil, nil
	u.mu.Unlock()
	for _, ino := range stale {
		u.fs.invalidate(ino, false)
	}
	u.unlinked(ctx, orphans)
	u.mu.Lock()
	freed := u.smaller || len(orphans) > 0
	u.smaller = false
	u.mu.Unlock()
	if freed && !u.freed(ctx) { // later
		u.mu.Lock()
		u.smaller = true
		u.mu.Unlock()
	}
}

// unlinked releases orphans, together if that goes, so that one which is damaged keeps no other.
func (u *upkeep) unlinked(ctx context.Context, orphans []meta.Ino) {
	for _, ino := range orphans {
		u.fs.atimes.drop(ino)
	}
	if len(orphans) > 1 && u.fs.content.Unlinked(ctx, orphans...) == nil {
		return
	}
	for _, ino := range orphans {
		if err := u.fs.content.Unlinked(ctx, ino); err != nil { // the next mount tries again
			u.fs.failed("release", uint64(ino), err)
		}
	}
}
