package trail

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// followEvery is how often a log is looked at for new records.
const followEvery = 200 * time.Millisecond

// Follow calls fn for each event that is wanted and comes from now on, in all streams, until ctx ends (nil) or fn fails.
func Follow(ctx context.Context, dir string, q Query, fn func(Found) error) error {
	m := q.matcher()
	at := map[string]*place{}
	for first := true; ; first = false {
		streams := q.Streams
		if streams == nil {
			var err error
			if streams, err = Streams(dir); err != nil {
				return err
			}
		}
		for _, stream := range streams {
			p := at[stream]
			if p == nil {
				p = &place{dir: filepath.Join(dir, stream)}
				if at[stream] = p; first {
					if err := p.toEnd(); err != nil {
						return err
					}
				}
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

// place is how far a stream has been read.
type place struct {
	dir    string
	first  int64 // of the segment
	offset int64 // in it; 0: at its header
}

// toEnd goes to the present end.
func (p *place) toEnd() error {
	segments, err := listSegments(p.dir)
	if err != nil || len(segments) == 0 {
		return err
	}
	last := segments[len(segments)-1]
	p.first = last.first
	if last.packed {
		p.first, p.offset = last.first, -1
		return nil
	}
	return p.read(func([]byte) error { return nil })
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
	l := &lines{r: bufio.NewReaderSize(in, 64<<10), done: func() {}}
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
