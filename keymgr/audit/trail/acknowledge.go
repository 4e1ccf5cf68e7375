package trail

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

const (
	writeEvery = 5 * time.Millisecond   // between two batches for which nobody waits
	retryEvery = 100 * time.Millisecond // of such a one that could not be written
)

// openSpool finds a place for the spool. Without one every event waits for the writer.
func (l *Log) openSpool() error {
	for _, in := range l.opts.Spools {
		path, err := spoolPath(in, l.dir)
		if err != nil {
			return err
		}
		if l.mu.spool != nil {
			return nil
		}
		l.mu.spool, l.w.found, err = openSpool(path)
		if err != nil && !errors.Is(err, errNoSpool) {
			return err
		}
	}
	return nil
}

// acknowledge puts an event that need not survive a power cut into the spool; false if it has to wait for the writer, because there is no spool, or not all is well: it would not get to the disk
// in time, the log refuses such events, a sink wants it first.
func (l *Log) acknowledge(e *audit.Event) bool {
	now := time.Now()
	if overdue := l.flush.overdue.Load(); overdue != 0 && now.UnixNano() > overdue || l.demanding {
		return false
	}
	scratch, ok := l.scratch.Get().(*[]byte)
	if !ok {
		scratch = new([]byte)
	}
	defer l.scratch.Put(scratch)
	if l.opts.Auditor == nil {
		var form *audit.Form
		if form, *scratch = l.forms.Split((*scratch)[:0], e); form != nil {
			if ok, fits := l.spoolEvent(form, *scratch, now); fits {
				return ok
			}
		}
	}
	line, err := l.encode((*scratch)[:0], e)
	if err != nil {
		return false // who waits is told
	}
	*scratch = line
	ok, _ = l.spoolEvent(nil, line, now)
	return ok
}

// spoolEvent puts an event into the spool, as spool.put does, and behind what the writer has to write.
func (l *Log) spoolEvent(form *audit.Form, rest []byte, now time.Time) (ok, fits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.mu
	if m.spool == nil || m.closed || m.sealer == nil || m.err != nil || m.status.Full || len(m.queue) > 0 && now.Sub(m.queue[0].since(now)) > lateAfter {
		return false, true
	}
	first := m.spool.head
	end, length, fits := m.spool.put(form, rest)
	if end == 0 {
		return false, fits
	}
	m.queued += length
	if k := len(m.queue); k == 0 {
		l.nudge(l.later)
	} else if run := m.queue[k-1]; run.records > 0 && run.spooled == first {
		run.spooled, run.length, run.records = end, run.length+length, run.records+1
		return true, true
	}
	m.queue = append(m.queue, &entry{class: audit.Access, acked: now, first: first, spooled: end, length: length, records: 1})
	return true, true
}

// since is when an entry was acknowledged; now, if it was not.
func (n *entry) since(now time.Time) time.Time {
	if n.acked.IsZero() {
		return now
	}
	return n.acked
}

// oldest is when the first entry of a batch was acknowledged.
func oldest(batch []*entry) time.Time {
	now := time.Now()
	at := now
	for _, n := range batch {
		if n.acked.Before(at) && !n.acked.IsZero() {
			at = n.acked
		}
	}
	return at
}

// pace lets some time pass since the last batch, unless somebody waits.
func (l *Log) pace() {
	every := writeEvery
	if l.Err() != nil {
		every = retryEvery
	}
	left := time.Until(l.w.last.Add(every))
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.wake:
	case <-l.ends:
	case fn := <-l.asked:
		fn()
	}
}

// putBack keeps what was acknowledged and could not be written, before all that came since.
func (l *Log) putBack(kept []*entry) {
	if len(kept) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range kept {
		l.mu.queued += n.size()
	}
	l.mu.queue = append(kept, l.mu.queue...)
	l.nudge(l.later)
}

// noteSpooled notes that the log has a batch. The caller holds mu.
func (l *Log) noteSpooled(batch []*entry) {
	var end uint64
	for _, n := range batch {
		end = max(end, n.spooled)
		if n.records > 0 {
			l.mu.spool.owed -= n.length
		}
	}
	if end == 0 {
		return
	}
	if err := l.mu.spool.mark(end, l.mu.status.Size); err != nil { // the next writer would only find them twice, and sees that
		l.opts.Log.Warn("the audit log's spool cannot be written", "error", err)
	}
}

// writeFound writes what the last writer had acknowledged and not written. After a clean end nothing can be: it is no longer of this log, and kept beside it. The writer runs it.
func (l *Log) writeFound(clean bool) error {
	found, s := l.w.found, l.mu.spool
	if l.w.found = nil; len(found) == 0 {
		return nil
	}
	size := l.w.growth.Now().Size()
	known, fits, err := l.idsFrom(int64(s.seen))
	if err != nil {
		return err
	}
	if clean || !fits {
		name := fmt.Sprintf("%0*d-%d%s", digits, size, l.opts.Now().UnixNano(), cutSuffix)
		l.opts.Log.Error("a spool that does not belong to the audit log is set aside", "dir", l.dir, "records", len(found), "file", name)
		if err := writeFile(filepath.Join(l.dir, name), append(bytes.Join(found, []byte{'\n'}), '\n')); err != nil {
			return err
		}
		return s.mark(s.head, size)
	}
	var batch []*entry
	for _, line := range found {
		if !known[string(member(line, eventIDMark))] {
			batch = append(batch, &entry{line: line, class: audit.Access, acked: time.Now(), spooled: s.head})
		}
	}
	if len(batch) == 0 {
		return s.mark(s.head, size)
	}
	l.opts.Log.Warn("events that were acknowledged before a crash are written to the audit log", "dir", l.dir, "records", len(batch))
	l.writeBatch(batch)
	return l.Err()
}

const eventIDMark = `"eventID":"`

// idsFrom gives the ids of the records from one on; false if the stream is shorter, or its segments begin behind it. There may be several since: the log's own records go on without the spool.
func (l *Log) idsFrom(from int64) (map[string]bool, bool, error) {
	segments, err := listSegments(l.dir)
	if err != nil {
		return nil, false, err
	}
	if len(segments) == 0 || from < segments[0].first || from > l.w.growth.Now().Size() {
		return nil, false, nil
	}
	ids := map[string]bool{}
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].first <= from {
			continue
		}
		err := readSegment(s, "", "", func(seal.Tree) error { return nil }, func(line, buf []byte) ([]byte, error) {
			if n, ok := sequenceOf(line); ok && n >= from {
				ids[string(member(line, eventIDMark))] = true
			}
			return buf, nil
		})
		if err != nil {
			return nil, false, err
		}
	}
	return ids, true, nil
}

// closeSpool takes the spool away if all that was in it is in the log.
func (l *Log) closeSpool() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.spool == nil {
		return nil
	}
	return l.mu.spool.close(true)
}
