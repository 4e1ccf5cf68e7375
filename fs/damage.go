package fs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// Bounds of what is recorded about damage: readers of a damaged file try again and again.
const (
	damageEvery   = 10 * time.Second // one event for an inode and operation in so long
	damageWaiting = 256              // findings that wait to be recorded; more are counted
	damagePaths   = 1
)

// finding is something that is not as we left it.
type finding struct {
	op    string
	ino   uint64
	cause error
}

// findingKey is what makes two findings one.
type findingKey struct {
	op  string
	ino uint64
}

// damageLog records in the audit log what requests find changed behind the filesystem's back: names and bytes that are not authentic. It records beside the
// requests, which get EIO in any case.
type damageLog struct {
	meta     *meta.Store
	recorder audit.Recorder // nil: nothing is recorded
	log      *slog.Logger
	queue    chan finding
	done     chan struct{}

	mu     sync.Mutex
	seen   map[findingKey]time.Time // guarded by mu
	missed uint64                   // guarded by mu; findings that no event tells of yet
	closed bool                     // guarded by mu
}

func newDamageLog(store *meta.Store, recorder audit.Recorder, log *slog.Logger) *damageLog {
	d := &damageLog{meta: store, recorder: recorder, log: log, queue: make(chan finding, damageWaiting), done: make(chan struct{}), seen: map[findingKey]time.Time{}}
	go d.run()
	return d
}

// isDamage tells errors that say that something was changed from those of a disk.
func isDamage(err error) bool {
	return errors.Is(err, meta.ErrAuth) || errors.Is(err, meta.ErrCorrupt) || errors.Is(err, content.ErrDamaged)
}

// note takes a finding down. It does not wait.
func (d *damageLog) note(op string, ino uint64, cause error) {
	if d.recorder == nil || !isDamage(cause) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	now := time.Now()
	if last, ok := d.seen[findingKey{op, ino}]; ok && now.Sub(last) < damageEvery {
		d.missed++
		return
	}
	select {
	case d.queue <- finding{op, ino, cause}:
		d.remember(findingKey{op, ino}, now)
	default:
		d.missed++
	}
}

// remember keeps seen bounded. The caller holds mu.
func (d *damageLog) remember(key findingKey, now time.Time) {
	if len(d.seen) >= 4*damageWaiting {
		for k, at := range d.seen {
			if now.Sub(at) >= damageEvery {
				delete(d.seen, k)
			}
		}
		if len(d.seen) >= 4*damageWaiting {
			clear(d.seen)
		}
	}
	d.seen[key] = now
}

func (d *damageLog) run() {
	defer close(d.done)
	for f := range d.queue {
		d.record(f)
	}
}

// record writes one event. What can't be recorded stays in the daemon's log.
func (d *damageLog) record(f finding) {
	ctx := context.Background()
	e := audit.Event{
		Class: audit.Integrity, Source: audit.Files, Name: audit.Damage, Internal: true, ReadOnly: true, Decision: audit.Deny,
		ErrorCode: "EIO", ErrorMessage: f.cause.Error(), Detail: f.op, Count: d.count(),
		Object: audit.Object{Volume: d.meta.Volume().String(), Inode: f.ino},
	}
	if paths, _, err := d.meta.Paths(ctx, meta.Ino(f.ino), damagePaths); err == nil && len(paths) > 0 {
		e.Path = paths[0]
	}
	if err := d.recorder.Record(ctx, &e); err != nil {
		d.log.Error("damage was found and could not be recorded in the audit log", "inode", f.ino, "op", f.op, "found", f.cause, "error", err)
	}
}

// count returns how many findings an event stands for.
func (d *damageLog) count() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.missed + 1
	d.missed = 0
	return n
}

// close records what waits.
func (d *damageLog) close() {
	d.mu.Lock()
	d.closed = true
	close(d.queue)
	d.mu.Unlock()
	<-d.done
}
