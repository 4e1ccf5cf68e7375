package audit

import (
	"fmt"
	"sync/atomic"
	"time"
)

// mark is a place in an encoded event, before or behind what differs between events that are otherwise alike.
type mark uint8

const (
	timeBegins mark = iota
	timeEnds
	idBegins
	idEnds
	pidBegins
	pidEnds
	placeBegins // path, newPath, inode
	placeEnds
	latencyBegins
	latencyEnds
	marks
)

// maxForms is how many forms are remembered: the last of those that were needed.
const maxForms = 8

// Forms writes events as Append does. Successful accesses of one user with one program to one zone differ in little: what they have in common is encoded once, and copied. The zero Forms has
// encoded nothing. Safe for concurrent use.
type Forms struct {
	known [maxForms]atomic.Pointer[form]
	next  atomic.Uint32
}

// form is what events have in common.
type form struct {
	common common
	parts  [marks/2 + 1][]byte // before, between and behind what differs
}

// common are the members that events of one form share. All others but those between marks are zero.
type common struct {
	source     Source
	name       string
	readOnly   bool
	identity   Identity // but for the process
	zone       uint64
	volume     string
	key        string
	keyVersion uint32
	statement  string
	cached     bool
}

// commonOf gives what an event shares with others; false if it has more than that, or is none of those that are many.
func commonOf(e *Event) (c common, ok bool) {
	if e.Class != Access || e.Decision != Allow || len(e.Parameters)+len(e.Response)+len(e.Context)+len(e.DestinationContext) > 0 ||
		e.RequestID != "" || e.KeyRequestID != "" || e.Internal || e.Alert || e.ErrorCode != "" || e.ErrorMessage != "" || e.Detail != "" || e.Sealed != "" ||
		e.BytesRead|e.BytesWritten|e.Count != 0 || e.MaterialID != "" || e.DestinationKey != "" || e.DestinationVersion != 0 {
		return c, false
	}
	c = common{source: e.Source, name: e.Name, readOnly: e.ReadOnly, identity: e.Identity, zone: e.Zone, volume: e.Volume, key: e.Key, keyVersion: e.KeyVersion, statement: e.Statement, cached: e.Cached}
	c.identity.PID = 0
	return c, true
}

// Append is e.Append.
func (f *Forms) Append(b []byte, e *Event) ([]byte, error) {
	c, ok := commonOf(e)
	if !ok {
		return e.Append(b)
	}
	for i := range f.known {
		if form := f.known[i].Load(); form != nil && form.common == c {
			return form.append(b, e)
		}
	}
	w := writer{b: b}
	out, err := e.append(&w)
	if err == nil {
		f.known[f.next.Add(1)%maxForms].Store(newForm(c, &w, len(b)))
	}
	return out, err
}

// newForm takes what is common from an event that was written from start on.
func newForm(c common, w *writer, start int) *form {
	f := &form{common: c}
	for i := range f.parts {
		end := len(w.b)
		if 2*i < int(marks) {
			end = w.marks[2*i]
		}
		f.parts[i] = append([]byte(nil), w.b[start:end]...)
		if 2*i+1 < int(marks) {
			start = w.marks[2*i+1]
		}
	}
	return f
}

// append writes an event of the form.
func (f *form) append(b []byte, e *Event) ([]byte, error) {
	w := writer{b: append(b, f.parts[0]...)}
	w.b = append(appendTime(w.b, e.Time), f.parts[1]...)
	w.b = append(AppendString(w.b, e.ID), f.parts[2]...)
	w.b = append(appendInt(w.b, e.PID), f.parts[3]...)
	w.place(e)
	w.b = append(w.b, f.parts[4]...)
	w.latency(e)
	w.b = append(w.b, f.parts[5]...)
	if n := len(w.b) - len(b); n > MaxEvent {
		return b, fmt.Errorf("%w: %d bytes, allowed are %d", ErrEvent, n, MaxEvent)
	}
	return w.b, nil
}

// appendTime writes a time in TimeFormat, in quotes.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return append(t.AppendFormat(append(b, '"'), TimeFormat), '"')
	}
	hour, minute, second := t.Clock()
	two := func(n int, end byte) { b = append(b, byte('0'+n/10), byte('0'+n%10), end) }
	b = append(b, '"', byte('0'+year/1000), byte('0'+year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	micros := t.Nanosecond() / 1000
	return append(b, byte('0'+micros/100000), byte('0'+micros/10000%10), byte('0'+micros/1000%10), byte('0'+micros/100%10), byte('0'+micros/10%10), byte('0'+micros%10), 'Z', '"')
}
