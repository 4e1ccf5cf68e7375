package trail

import (
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// gap is events that went on without their record.
type gap struct {
	count       uint64
	first, last time.Time
	why         string
}

// miss counts one.
func (l *Log) miss(at time.Time, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.mu.missing
	if g.count == 0 {
		g.first, g.why = at, why.Error()
	}
	g.count++
	g.last = at
}

// gapName is the event that stands for missing ones.
const gapName = "AuditGap"

// gapEntry is the record of what is missing, nil if nothing is. It goes before what is written next.
func (l *Log) gapEntry() *entry {
	l.mu.Lock()
	g := l.mu.missing
	l.mu.missing = gap{}
	l.mu.Unlock()
	if g.count == 0 {
		return nil
	}
	n, err := l.entry(&audit.Event{Class: audit.Integrity, Source: audit.Files, Name: gapName, Internal: true, Decision: audit.Allow, Count: g.count,
		Detail: fmt.Sprintf("successful file access that is not in the log, at most so often, between %s and %s: %s", g.first.UTC().Format(audit.TimeFormat),
			g.last.UTC().Format(audit.TimeFormat), g.why)})
	if err != nil {
		return nil // it always encodes
	}
	n.gap = &g
	return n
}

// sinkGapName is the event that says how many events a sink did not get.
const sinkGapName = "AuditSinkGap"

// sinkGaps are the records of what sinks lost since the last time.
func (l *Log) sinkGaps() []*entry {
	var out []*entry
	for _, s := range l.sinks {
		count := s.takeLost()
		if count == 0 {
			continue
		}
		if n, err := l.entry(l.internal(sinkGapName, "sink "+s.sink.Name, count)); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// putBackGap keeps what a record of missing events said, if it could not be written itself.
func (l *Log) putBackGap(n *entry) {
	if n.gap == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.mu.missing
	if g.count == 0 {
		*g = *n.gap
		return
	}
	g.count += n.gap.count
	g.first, g.why = n.gap.first, n.gap.why
}
