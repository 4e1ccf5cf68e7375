package audit

import (
	"encoding/binary"
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

// pieces is how many pieces of an event differ between events of one form.
const pieces = int(marks) / 2

// MaxForms is how many forms are remembered: the last of those that were needed.
const MaxForms = 32

// Forms writes events as Append does. Successful accesses of one user with one program to one zone differ in little: what they have in common is encoded once. The zero Forms has encoded
// nothing. Safe for concurrent use.
type Forms struct {
	known [MaxForms]atomic.Pointer[Form]
	next  atomic.Uint32
}

// Form is what events have in common, encoded. It does not change.
type Form struct {
	common common
	place  int
	parts  [pieces + 1][]byte // before, between and behind what differs
	length int                // of the parts together
}

// Place says which of a Forms' MaxForms it is, from 0: a new one there replaces it.
func (f *Form) Place() int { return f.place }

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

// form finds an event's form, or makes it; nil for an event that has none.
func (f *Forms) form(e *Event) *Form {
	c, ok := commonOf(e)
	if !ok {
		return nil
	}
	for i := range f.known {
		if known := f.known[i].Load(); known != nil && known.common == c {
			return known
		}
	}
	w := writer{}
	if _, err := e.append(&w); err != nil {
		return nil
	}
	i := int(f.next.Add(1) % MaxForms)
	made := newForm(c, i, &w)
	f.known[i].Store(made)
	return made
}

// newForm takes what is common from an event that was written.
func newForm(c common, place int, w *writer) *Form {
	f := &Form{common: c, place: place}
	start := 0
	for i := range f.parts {
		end := len(w.b)
		if i < pieces {
			end = w.marks[2*i]
		}
		f.parts[i] = append([]byte(nil), w.b[start:end]...)
		f.length += end - start
		if i < pieces {
			start = w.marks[2*i+1]
		}
	}
	return f
}

// Append is e.Append.
func (f *Forms) Append(b []byte, e *Event) ([]byte, error) {
	form := f.form(e)
	if form == nil {
		return e.Append(b)
	}
	w := writer{b: b}
	for i := range pieces {
		w.b = append(w.b, form.parts[i]...)
		w.piece(i, e)
	}
	w.b = append(w.b, form.parts[pieces]...)
	if n := len(w.b) - len(b); n > MaxEvent {
		return b, fmt.Errorf("%w: %d bytes, allowed are %d", ErrEvent, n, MaxEvent)
	}
	return w.b, nil
}

// Split appends to b what an event has beyond its form: Join makes of both what Append makes of the event. nil, and b as it was, for an event that only Append can write, or refuse.
func (f *Forms) Split(b []byte, e *Event) (*Form, []byte) {
	form := f.form(e)
	if form == nil {
		return nil, b
	}
	w := writer{b: b}
	for i := range pieces {
		at := len(w.b)
		w.b = append(w.b, 0, 0, 0, 0)
		w.piece(i, e)
		binary.BigEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
	}
	if form.Length(w.b[len(b):]) > MaxEvent {
		return nil, b
	}
	return form, w.b
}

// piece writes one piece of an event.
func (w *writer) piece(i int, e *Event) {
	switch mark(2 * i) {
	case timeBegins:
		w.b = appendTime(w.b, e.Time)
	case idBegins:
		w.b = AppendString(w.b, e.ID)
	case pidBegins:
		w.b = appendInt(w.b, e.PID)
	case placeBegins:
		w.place(e)
	case latencyBegins:
		w.latency(e)
	}
}

// Length is that of the event that Join makes of a rest.
func (f *Form) Length(rest []byte) int { return f.length + len(rest) - 4*pieces }

// Join appends to b the event that Split has split, as Append writes it. ErrEvent for what is no rest.
func (f *Form) Join(b, rest []byte) ([]byte, error) {
	out := b
	for i := range pieces {
		piece, left, ok := cutPiece(rest)
		if !ok {
			return b, fmt.Errorf("%w: cut", ErrEvent)
		}
		out, rest = append(append(out, f.parts[i]...), piece...), left
	}
	if len(rest) > 0 {
		return b, fmt.Errorf("%w: something behind", ErrEvent)
	}
	return append(out, f.parts[pieces]...), nil
}

// cutPiece takes the first piece off: length u32, bytes.
func cutPiece(p []byte) (piece, rest []byte, ok bool) {
	if len(p) < 4 || uint64(binary.BigEndian.Uint32(p)) > uint64(len(p)-4) {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint32(p))
	return p[4 : 4+n], p[4+n:], true
}

// Encode appends the form, for ParseForm.
func (f *Form) Encode(b []byte) []byte {
	for _, part := range f.parts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return b
}

// ParseForm reads a form, which joins and does nothing else. ErrEvent.
func ParseForm(data []byte) (*Form, error) {
	f := new(Form)
	for i := range f.parts {
		part, rest, ok := cutPiece(data)
		if !ok {
			return nil, fmt.Errorf("%w: form: cut", ErrEvent)
		}
		f.parts[i], data = append([]byte(nil), part...), rest
		f.length += len(part)
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%w: form: something behind", ErrEvent)
	}
	return f, nil
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
