package trail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// flushState is what is written and not yet known to be on disk. It is kept in memory: a flush that failed may have lost it, and is repeated with the bytes written again.
type flushState struct {
	mu      sync.Mutex
	bytes   []byte
	from    int64     // where they begin in the file
	since   time.Time // when the oldest of them was written
	waiting []*entry
	again   bool // a flush failed: write the bytes again

	overdue atomic.Int64 // when it will be, in nanoseconds since 1970; 0: nothing waits
}

// lateAfter is when a flush is overdue: what is acknowledged from then on waits for it.
const lateAfter = audit.FlushWithin / 2

// add notes bytes that were written at off, the first of them acknowledged at since. late says that who wrote them has to wait for the flush, because it is overdue.
func (f *flushState) add(p []byte, off int64, since time.Time) (late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.bytes) == 0 {
		f.from, f.since = off, since
	}
	f.bytes = append(f.bytes, p...)
	f.note()
	return time.Since(f.since) > lateAfter || f.again
}

// note tells those who do not hold mu when a flush is overdue.
func (f *flushState) note() {
	switch {
	case len(f.bytes) == 0:
		f.overdue.Store(0)
	case f.again:
		f.overdue.Store(1)
	default:
		f.overdue.Store(f.since.Add(lateAfter).UnixNano())
	}
}

func (f *flushState) wait(n *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, n)
}

// left says whether there is something to flush.
func (f *flushState) left() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bytes)+len(f.waiting) > 0
}

// flusher is the goroutine that flushes: at once where somebody waits, else what is written within flushEvery. While nothing is written nothing wakes it.
func (l *Log) flusher() {
	due := time.NewTimer(flushEvery)
	defer due.Stop()
	due.Stop()
	armed := false
	arm := func(in time.Duration) {
		if !armed {
			armed = true
			due.Reset(max(in, 0))
		}
	}
	for {
		select {
		case <-l.flushes:
		case <-due.C:
			armed = false
		case <-l.dirty:
			arm(flushEvery)
			continue
		case <-l.written: // nothing comes any more
			l.syncing <- struct{}{}
			_ = l.flushOrRescue() // who waits is told
			<-l.syncing
			return
		}
		began := time.Now()
		l.flushOnce()
		if l.flush.left() { // written meanwhile, or it failed
			arm(flushEvery - time.Since(began))
		}
	}
}

// flushOnce is what the flusher does when it is time.
func (l *Log) flushOnce() {
	l.syncing <- struct{}{}
	err := l.flushNow()
	<-l.syncing
	if errors.Is(err, errGone) {
		err = l.ask(context.Background(), l.flushAlone)
	}
	if err != nil {
		l.setErr(err)
	}
}

// errGone: the file is not at its path any more.
var errGone = errors.New("the audit log's file was removed")

// flushOrRescue is flushNow by who alone uses the file: one that was removed is put back before.
func (l *Log) flushOrRescue() error {
	err := l.flushNow()
	if !errors.Is(err, errGone) {
		return err
	}
	r, ok := l.disk.(interface {
		Rescue(segment, segmentFile) error
	})
	if !ok {
		return l.failFlush(errGone)
	}
	if err := r.Rescue(l.w.seg, l.w.file); err != nil {
		return l.failFlush(fmt.Errorf("%w: %w", errGone, err))
	}
	l.opts.Log.Error("the audit log's file was removed or replaced; it was put back", "file", l.w.seg.plain())
	return l.flushNow()
}

// flushAlone is flushOrRescue for the writer.
func (l *Log) flushAlone() error {
	l.syncing <- struct{}{}
	defer func() { <-l.syncing }()
	return l.flushOrRescue()
}

// flushNow flushes what is written, and answers who waits for that. The caller has taken syncing. errGone, and nobody is answered, if the file was removed.
func (l *Log) flushNow() error {
	f := &l.flush
	f.mu.Lock()
	n, from, again, began, any := len(f.bytes), f.from, f.again, time.Now(), len(f.bytes)+len(f.waiting) > 0
	pending := f.bytes[:n:n]
	waiting := f.waiting
	f.mu.Unlock()
	if !any {
		return nil
	}
	if !l.w.file.Present() {
		return errGone
	}
	err := l.sync(pending, from, again)
	f.mu.Lock()
	if f.again = err != nil; err == nil {
		f.bytes, f.from, f.since = append(f.bytes[:0], f.bytes[n:]...), f.from+int64(n), began
		if cap(f.bytes) > 4<<20 && len(f.bytes) == 0 {
			f.bytes = nil
		}
	}
	f.waiting = f.waiting[len(waiting):]
	f.note()
	f.mu.Unlock()
	answer(waiting, err)
	return err
}

// failFlush answers who waits that it will not be.
func (l *Log) failFlush(err error) error {
	f := &l.flush
	f.mu.Lock()
	waiting := f.waiting
	f.waiting, f.again = nil, true
	f.note()
	f.mu.Unlock()
	answer(waiting, err)
	return err
}

func answer(waiting []*entry, err error) {
	for _, n := range waiting {
		n.end(err)
	}
}

func (l *Log) sync(pending []byte, from int64, again bool) error {
	if again {
		if _, err := l.w.file.WriteAt(pending, from); err != nil {
			return fmt.Errorf("write audit log again: %w", err)
		}
	}
	if err := l.w.file.Sync(); err != nil {
		return fmt.Errorf("flush audit log: %w", err)
	}
	return nil
}
