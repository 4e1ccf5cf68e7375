package trail

import (
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
)

// encode appends an event as far as its sequence number, sealed if there is an auditor. The log's own events stay in clear: whoever verifies needs them, and they name nobody.
func (l *Log) encode(b []byte, e *audit.Event) ([]byte, error) {
	if l.opts.Auditor == nil || e.Class == audit.Repair || e.Name == gapName || e.Name == sinkGapName {
		return l.forms.Append(b, e)
	}
	body, err := e.Append(b)
	if err != nil {
		return b, err
	}
	box, err := l.opts.Auditor.Seal(nil, e.ID, body[len(b):])
	if err != nil {
		return b, fmt.Errorf("record %s: %w", e.Name, err)
	}
	shell := audit.Event{Class: e.Class, Source: e.Source, Name: e.Name, Time: e.Time, ID: e.ID, ReadOnly: e.ReadOnly, Decision: e.Decision, Sealed: string(box)}
	return shell.Append(b)
}

// Unseal gives the line and the event that a sealed one stands for, with its place in the log; both as they are if it is not sealed. auditor.ErrSealed, audit.ErrEvent.
func Unseal(o *auditor.Opener, line []byte, e *audit.Event) ([]byte, *audit.Event, error) {
	if o == nil || e.Sealed == "" {
		return line, e, nil
	}
	body, err := o.Open(e.ID, e.Sealed)
	if err != nil {
		return nil, nil, err
	}
	line = audit.AppendSequence(body, e.Sequence)
	in, err := audit.Parse(line)
	if err != nil {
		return nil, nil, err
	}
	if in.ID != e.ID || in.Name != e.Name || in.Class != e.Class || in.Decision != e.Decision || !in.Time.Equal(e.Time) {
		return nil, nil, fmt.Errorf("%w: event %s is not what it is said to be", auditor.ErrSealed, e.ID)
	}
	return line, in, nil
}
