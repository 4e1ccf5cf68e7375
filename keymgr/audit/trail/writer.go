package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// writerState belongs to the goroutine that writes, but for file, which is exchanged by whoever has taken syncing.
type writerState struct {
	seg    segment
	file   segmentFile
	size   int64 // of the file, in bytes
	cut    int64 // bytes that were cut off at the start
	torn   bool  // there may be bytes behind size
	opened time.Time
	growth *seal.Growth // the stream, and the newest sealed head of it
	next   *seal.Growth // from the head that is being sealed; nil while none is
	news   int          // records since that head, seals not counted
	buf    []byte
	hashed []byte

	taken    int           // records of the batch that was written last
	expected int           // records of the next one: as many, and those that came meanwhile
	inVain   int           // how many batches are not waited for
	patience time.Duration // gatherTime

	full     bool      // there is no space: the reserve is for administrative and repair events
	reserve  int64     // bytes of it that are left
	askSpace time.Time // not before: look whether there is space again

	found [][]byte  // what the last writer left in the spool; written by Attach
	last  time.Time // when something was written, or was tried to be
}

const (
	gatherTime  = 400 * time.Microsecond // for so long a batch waits for records that are expected; where nothing else runs, the runtime makes a millisecond of it
	notGathered = 2                      // batches do not wait after one that waited in vain
)

// gather lets those hand their records over who are about to: those who asked for the last batch, and who waited when that was done, ask again as soon as they are answered, where they have more to ask. One
// flush for all.
func (l *Log) gather() {
	runtime.Gosched()
	if l.w.inVain > 0 {
		l.w.inVain--
		return
	}
	if l.waiting() >= l.w.expected {
		return
	}
	limit := time.NewTimer(l.w.patience)
	defer limit.Stop()
	for l.waiting() < l.w.expected {
		select {
		case <-l.wake:
			runtime.Gosched()
		case <-limit.C:
			l.w.inVain = notGathered
			return
		}
	}
}

// waiting is how many records wait to be written.
func (l *Log) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.queue)
}

// write is the goroutine that writes.
func (l *Log) write() {
	defer close(l.written)
	for {
		select {
		case <-l.wake:
			if l.opts.Flushed {
				l.gather()
			}
			l.writeBatch(l.take())
			if l.opts.Flushed {
				l.w.expected = l.w.taken + l.waiting()
			}
		case <-l.later:
			l.pace()
			l.writeBatch(l.take())
		case fn := <-l.asked:
			fn()
		case <-l.ends:
			for batch := l.take(); len(batch) > 0; batch = l.take() { // came in just before Close
				if l.writeBatch(batch); l.Err() != nil {
					return // what was acknowledged is in the spool
				}
			}
			return
		}
	}
}

func (l *Log) take() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.mu.queue
	l.mu.queue, l.mu.queued = nil, 0
	l.w.taken = len(batch)
	if len(batch) > 0 {
		l.w.last = time.Now()
	}
	return batch
}

// ask has the writer run fn between two batches, and waits until it did: audit.ErrClosed if the log is closed, or ctx's error, and then fn may still run.
func (l *Log) ask(ctx context.Context, fn func() error) error {
	done := make(chan error, 1)
	select {
	case l.asked <- func() { done <- fn() }:
	case <-l.written:
		return audit.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeBatch writes entries and answers those who wait for them.
func (l *Log) writeBatch(batch []*entry) {
	if len(batch) == 0 {
		return
	}
	if gap := l.gapEntry(); gap != nil {
		batch = append([]*entry{gap}, batch...)
	}
	batch = append(l.sinkGaps(), batch...)
	if batch = l.admit(batch); len(batch) == 0 {
		return
	}
	err := l.append(batch)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		l.becomeFull()
		if batch = l.admit(batch); len(batch) == 0 {
			l.setErr(audit.ErrFull)
			return
		}
		err = l.appendFromReserve(batch)
	}
	if err != nil {
		l.refuse(batch, fmt.Errorf("write audit log: %w", err))
		return
	}
	l.accept(batch)
}

// admit refuses what may not be written while there is no space, and gives the rest.
func (l *Log) admit(batch []*entry) []*entry {
	if l.w.full {
		l.lookForSpace()
	}
	if !l.w.full {
		return batch
	}
	var rest []*entry
	for _, n := range batch {
		if n.class == audit.Admin || n.class == audit.Repair || !n.acked.IsZero() {
			rest = append(rest, n)
			continue
		}
		l.putBackGap(n)
		n.end(fmt.Errorf("%w: %s; kmsfs audit archive makes room", audit.ErrFull, l.dir))
	}
	return rest
}

func (l *Log) refuse(batch []*entry, err error) {
	l.setErr(err)
	var kept []*entry
	for _, n := range batch {
		if !n.acked.IsZero() {
			kept = append(kept, n)
			continue
		}
		l.putBackGap(n)
		n.end(err)
	}
	l.putBack(kept)
}

// append writes a batch, which is not empty: all of it, or nothing.
func (l *Log) append(batch []*entry) error {
	w := &l.w
	if w.torn {
		if err := w.file.Truncate(w.size); err != nil {
			return err
		}
		w.torn = false
	}
	if w.size >= l.opts.SegmentSize || l.opts.Now().Sub(w.opened) >= l.opts.SegmentAge && w.growth.Now().Size() > w.seg.first {
		if err := l.rotate(); err != nil {
			l.opts.Log.Warn("the audit log's segment could not be changed; it grows", "dir", l.dir, "error", err)
		}
	}
	if err := l.encodeBatch(batch); err != nil {
		return err
	}
	if _, err := w.file.Write(w.buf); err != nil {
		w.torn = w.file.Truncate(w.size) != nil
		return err
	}
	return nil
}

// encodeBatch puts the lines of a batch, with their numbers, into buf.
func (l *Log) encodeBatch(batch []*entry) (err error) {
	w := &l.w
	w.buf = w.buf[:0]
	next := w.growth.Now().Size()
	number := func() {
		w.buf = append(audit.AppendSequence(w.buf, uint64(next)), '\n')
		next++
	}
	for _, n := range batch {
		if n.records == 0 {
			n.at, w.buf = next, append(w.buf, n.line...)
			number()
			continue
		}
		for at := n.first; at < n.spooled; number() {
			if w.buf, at, err = l.mu.spool.appendLine(w.buf, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// accept takes note of a batch that was written, and has it flushed if anybody waits for that.
func (l *Log) accept(batch []*entry) {
	w := &l.w
	late := l.flush.add(w.buf, w.size, oldest(batch))
	w.size += int64(len(w.buf))
	urgent := late
	for _, n := range batch {
		if !n.seal {
			w.news += max(n.records, 1)
			l.nudge(l.news)
		}
		if n.durable = n.acked.IsZero() && (n.durable || late); n.durable {
			urgent = true
			l.flush.wait(n)
		} else {
			n.end(nil)
		}
	}
	switch {
	case urgent && !l.opts.Flushed:
		l.nudge(l.flushes)
	case !urgent:
		l.nudge(l.dirty)
	}
	l.count(batch)
	if urgent && l.opts.Flushed {
		if err := l.flushAlone(); err != nil {
			l.setErr(err)
			l.nudge(l.dirty) // the flusher tries again
		}
	}
}

// count takes the records of a batch, which are in buf, into the tree, and gives them to the sinks.
func (l *Log) count(batch []*entry) {
	w := &l.w
	for rest := w.buf; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		h, buf := recordHash(w.hashed, rest[:end])
		w.hashed = buf
		w.growth.Add(h)
		if w.next != nil {
			w.next.Add(h)
		}
		for _, s := range l.sinks {
			s.offer(rest[:end], w.growth.Now().Size()-1)
		}
		rest = rest[end+1:]
	}
	if cap(w.buf) > 1<<20 {
		w.buf = nil
	}
	l.mu.Lock()
	l.mu.err = nil
	l.mu.status.Size, l.mu.status.Full = w.growth.Now().Size(), w.full
	l.noteSpooled(batch)
	l.mu.Unlock()
}

// rotate begins a new segment; the old one is flushed before. The old one stays where that fails.
func (l *Log) rotate() error {
	w := &l.w
	l.syncing <- struct{}{}
	defer func() { <-l.syncing }()
	if err := l.flushOrRescue(); err != nil {
		return err
	}
	return l.begin(segment{dir: l.dir, first: w.growth.Now().Size()}, w.growth.Now())
}

// begin makes a segment and writes to it from now on. The caller has taken syncing, or is alone.
func (l *Log) begin(s segment, tree *seal.Tree) error {
	w := &l.w
	head := header{Format: formatVersion, KeyStore: l.opts.KeyStore, Stream: l.opts.Stream, First: s.first, Edge: tree.Edge()}.encode()
	f, err := l.disk.Create(s, head)
	if err != nil {
		return err
	}
	if w.file != nil {
		_ = w.file.Close() // flushed
	}
	w.seg, w.file, w.size, w.torn, w.opened = s, f, int64(len(head)), false, l.opts.Now()
	l.mu.Lock()
	l.mu.current = s.first
	l.mu.Unlock()
	l.nudge(l.packs)
	return nil
}
