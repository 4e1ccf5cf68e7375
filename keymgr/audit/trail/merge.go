package trail

import (
	"context"
	"errors"
	"iter"
)

// errDone ends the search of a stream whose events nobody wants any more.
var errDone = errors.New("nobody asks any more")

// events are what is wanted of one stream. A line is valid until the next event is asked for.
func (m *matcher) events(ctx context.Context, dir, stream string) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		err := m.stream(ctx, dir, stream, func(f Found) error {
			if !yield(f, nil) {
				return errDone
			}
			return nil
		})
		if err != nil && !errors.Is(err, errDone) {
			yield(Found{}, err)
		}
	}
}

// head is the next event of a stream.
type head struct {
	found Found
	next  func() (Found, error, bool)
}

// merge calls fn for what is wanted of several streams, always the earliest of their next events.
func (m *matcher) merge(ctx context.Context, dir string, streams []string, fn func(Found) error) error {
	var heads []*head
	for _, stream := range streams {
		next, stop := iter.Pull2(m.events(ctx, dir, stream))
		defer stop()
		f, err, ok := next()
		if err != nil {
			return err
		}
		if ok {
			heads = append(heads, &head{f, next})
		}
	}
	for len(heads) > 0 {
		first := 0
		for i, h := range heads {
			if h.found.Event.Time.Before(heads[first].found.Event.Time) {
				first = i
			}
		}
		h := heads[first]
		if err := fn(h.found); err != nil {
			return err
		}
		f, err, ok := h.next()
		if err != nil {
			return err
		}
		if h.found = f; !ok {
			heads = append(heads[:first], heads[first+1:]...)
		}
	}
	return nil
}
