package trail

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// followEvery is how often a log is looked at for new records.
const followEvery = 200 * time.Millisecond

// Tail is a log at one moment: what was recorded before, and what comes afterwards. Between the two nothing is missed and nothing comes twice.
type Tail struct {
	dir string
	q   Query
	at  map[string]*place
}

// NewTail takes note of where each stream ends now. ErrNoLog, the system's errors.
func NewTail(dir string, q Query) (*Tail, error) {
	t := &Tail{dir, q, map[string]*place{}}
	streams, err := t.streams()
	if err != nil {
		return nil, err
	}
	for _, stream := range streams {
		p := &place{dir: filepath.Join(dir, stream)}
		if err := p.toEnd(); err != nil {
			return nil, err
		}
		t.at[stream] = p
	}
	return t, nil
}

func (t *Tail) streams() ([]string, error) {
	if t.q.Streams != nil {
		return t.q.Streams, nil
	}
	return Streams(t.dir)
}

// Before is Search of what was recorded before.
func (t *Tail) Before(ctx context.Context, fn func(Found) error) error {
	q := t.q
	q.Streams = slices.Sorted(maps.Keys(t.at))
	return Search(ctx, t.dir, q, func(f Found) error {
		if int64(f.Event.Sequence) >= t.at[f.Stream].next {
			return nil
		}
		return fn(f)
	})
}

// Follow calls fn for each event that is wanted and came since, in all streams, also in new ones, until ctx ends (nil) or fn fails. Events of one look at the log come by stream.
func (t *Tail) Follow(ctx context.Context, fn func(Found) error) error {
	m := t.q.matcher()
	for {
		streams, err := t.streams()
		if err != nil {
			return err
		}
		for _, stream := range streams {
			p := t.at[stream]
			if p == nil {
				p = &place{dir: filepath.Join(t.dir, stream)}
				t.at[stream] = p
			}
			if err := p.read(func(line []byte) error { return m.line(ctx, stream, line, fn) }); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// Follow calls fn for each event that is wanted and comes from now on.
func Follow(ctx context.Context, dir string, q Query, fn func(Found) error) error {
	t, err := NewTail(dir, q)
	if err != nil {
		return err
	}
	return t.Follow(ctx, fn)
}

// place is how far a stream has been read.
type place struct {
	dir    string
	first  int64 // of the segment
	offset int64 // in it; 0: at its header; -1: at its end
	next   int64 // number of the first record that was not there in toEnd
}

// toEnd goes to the present end.
func (p *place) toEnd() error {
	segments, err := listSegments(p.dir)
	if err != nil || len(segments) == 0 {
		return err
	}
	last := segments[len(segments)-1]
	p.first, p.next = last.first, last.first
	if last.packed {
		p.offset, p.next = -1, math.MaxInt64
		return nil
	}
	return p.read(func(line []byte) error {
		if n, ok := sequenceOf(line); ok {
			p.next = n + 1
		}
		return nil
	})
}

// read gives every line behind the place, and moves it on.
func (p *place) read(fn func(line []byte) error) error {
	for {
		if err := p.readSegment(fn); err != nil {
			return err
		}
		segments, err := listSegments(p.dir)
		if err != nil {
			return err
		}
		next := int64(-1)
		for _, s := range segments {
			if s.first > p.first {
				next = s.first
				break
			}
		}
		if next < 0 {
			return nil
		}
		if err := p.readSegment(fn); err != nil { // what came before the next one began
			return err
		}
		p.first, p.offset = next, 0
	}
}

func (p *place) readSegment(fn func(line []byte) error) error {
	if p.offset < 0 {
		return nil
	}
	var in io.Reader
	s := segment{dir: p.dir, first: p.first}
	f, err := os.Open(s.plain())
	if errors.Is(err, os.ErrNotExist) { // it was compressed meanwhile
		s.packed = true
		l, err := openSegment(s)
		if errors.Is(err, os.ErrNotExist) {
			return nil // or taken away
		}
		if err != nil {
			return err
		}
		defer l.close()
		if _, err := io.CopyN(io.Discard, l.r, p.offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		in = l.r
	} else if err != nil {
		return err
	} else {
		defer f.Close()
		if _, err := f.Seek(p.offset, io.SeekStart); err != nil {
			return err
		}
		in = f
	}
	l := &lines{r: bufio.NewReaderSize(in, 64<<10), open: !s.packed, done: func() {}}
	for {
		head := p.offset == 0
		before := l.end
		line, err := l.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) { // the rest is being written
			return nil
		}
		if err != nil {
			return err
		}
		p.offset += l.end - before
		if head {
			continue
		}
		if err := fn(line); err != nil {
			return err
		}
	}
}
