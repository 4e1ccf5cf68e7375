package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// keyed are directories with keys of their own, where the filesystem has
// that, with ten files of 4 KiB each. Elsewhere they are plain directories.
type keyed struct{}

const filesPerKey = 10

func keyLoads() []Load {
	k := keyed{}
	return []Load{
		{Name: "open, first of each key, cold", Unit: "op/s", Cold: true, Setup: k.ensure, Run: k.openCold},
		{Name: "open, key known, cold", Unit: "op/s", Cold: true, Setup: k.ensure, Run: k.openKnown},
		{Name: "open, all warm", Unit: "op/s", Setup: k.warm, Run: k.openAll},
		{Name: "key manager calls, keys cold", Unit: "per 1,000 opens", Lower: true, Cold: true, Setup: k.ensure, Run: k.calls(false)},
		{Name: "token (HSM) calls, keys cold", Unit: "per 1,000 opens", Lower: true, Cold: true, Setup: k.ensure, Run: k.calls(true)},
		{Name: "token (HSM) calls, keys warm", Unit: "per 1,000 opens", Lower: true, Setup: k.warm, Run: k.calls(true)},
	}
}

func (k keyed) keys(e *Env) int { return e.count(100) }

func (k keyed) file(e *Env, key, i int) string {
	return e.path("keyed", strconv.Itoa(key), strconv.Itoa(i))
}

func (k keyed) content(key, i int) []byte {
	b := make([]byte, page)
	copy(b, fmt.Sprintf("%d %d", key, i))
	return b
}

func (k keyed) ensure(ctx context.Context, e *Env) error {
	if _, err := os.Stat(k.file(e, k.keys(e)-1, filesPerKey-1)); err == nil {
		return nil
	}
	if err := errors.Join(os.RemoveAll(e.path("keyed")), os.Mkdir(e.path("keyed"), 0o755)); err != nil {
		return err
	}
	for key := range k.keys(e) {
		if err := k.fill(ctx, e, key); err != nil {
			return err
		}
	}
	return nil
}

func (k keyed) fill(ctx context.Context, e *Env, key int) error {
	dir := e.path("keyed", strconv.Itoa(key))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := e.Host.OwnKey(ctx, dir); err != nil && !errors.Is(err, ErrNotOffered) {
		return fmt.Errorf("give a directory its key: %w", err)
	}
	for i := range filesPerKey {
		if err := os.WriteFile(k.file(e, key, i), k.content(key, i), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (k keyed) warm(ctx context.Context, e *Env) error {
	if err := k.ensure(ctx, e); err != nil {
		return err
	}
	_, err := k.openAll(ctx, e)
	return err
}

// open opens and reads the files from to end-1 of each key, in this order:
// all of the first number, all of the next.
func (k keyed) open(ctx context.Context, e *Env, from, end int) (Result, error) {
	watch := newStopwatch(k.keys(e) * (end - from))
	for i := from; i < end; i++ {
		for key := range k.keys(e) {
			if ctx.Err() != nil {
				return Result{}, ctx.Err()
			}
			if err := readAndCompare(k.file(e, key, i), k.content(key, i)); err != nil {
				return Result{}, err
			}
			watch.lap()
		}
	}
	return watch.result(), nil
}

func (k keyed) openCold(ctx context.Context, e *Env) (Result, error) { return k.open(ctx, e, 0, 1) }

// openKnown has opened another file of each directory before.
func (k keyed) openKnown(ctx context.Context, e *Env) (Result, error) {
	if _, err := k.open(ctx, e, 0, 1); err != nil {
		return Result{}, err
	}
	return k.open(ctx, e, 1, 2)
}

func (k keyed) openAll(ctx context.Context, e *Env) (Result, error) {
	return k.open(ctx, e, 0, filesPerKey)
}

// calls counts requests to the key manager while all files are opened, or
// those of them that use the token.
func (k keyed) calls(token bool) func(context.Context, *Env) (Result, error) {
	return func(ctx context.Context, e *Env) (Result, error) {
		since := time.Now()
		if _, err := k.openAll(ctx, e); err != nil {
			return Result{}, err
		}
		all, used, err := e.Host.KeyCalls(ctx, since)
		if token {
			all = used
		}
		return Result{Value: float64(all) * 1000 / float64(k.keys(e)*filesPerKey)}, err
	}
}
