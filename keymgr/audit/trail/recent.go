package trail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Recent is Search of one stream from its end: the newest block of a compressed segment first, or the open segment; the events of either in their order. It stops before the next block once
// fn was called limit times; cut says that there was more which is wanted. ErrNoLog; ErrDamaged for what cannot be read.
func Recent(ctx context.Context, dir, stream string, q Query, limit int, fn func(Found) error) (cut bool, err error) {
	segments, err := listSegments(filepath.Join(dir, stream))
	if errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("%w: no stream %s in %s", ErrNoLog, stream, dir)
	}
	if err != nil {
		return false, err
	}
	m := q.matcher()
	m.backward = true
	given, last := 0, uint64(0)
	give := func(f Found) error {
		if given >= limit && f.Event.Sequence < last { // a block before those that were read
			cut = true
			return errDone
		}
		given, last = given+1, f.Event.Sequence
		return fn(f)
	}
	for _, s := range slices.Backward(segments) {
		if err := m.segment(ctx, stream, s, give); errors.Is(err, errDone) {
			return cut, nil
		} else if err != nil {
			return cut, err
		}
	}
	return cut, nil
}
