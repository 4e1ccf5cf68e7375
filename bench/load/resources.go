package load

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// resourceLoads are what the filesystem takes beside time.
func resourceLoads() []Load {
	f := big(1024)
	return []Load{
		{Name: "space of an empty filesystem", Unit: "MB", Lower: true, Run: emptySpace},
		{Name: "source tree: space per byte", Unit: "B/B", Lower: true, Setup: ensureTree, Run: treeSpace},
		{Name: "processor time of sequential write", Unit: "s/GiB", Lower: true, Run: cpuOf(f, f.write)},
		{Name: "processor time of sequential read, cold", Unit: "s/GiB", Lower: true, Cold: true, Setup: f.ensure, Run: cpuOf(f, f.read)},
	}
}

// cpuOf is the processor time of the filesystem's processes in run. What the
// kernel does for the client is not in it.
func cpuOf(f big, run func(context.Context, *Env) (Result, error)) func(context.Context, *Env) (Result, error) {
	return func(ctx context.Context, e *Env) (Result, error) {
		before, err := e.Host.CPU(ctx)
		if err != nil {
			return Result{}, err
		}
		if _, err := run(ctx, e); err != nil {
			return Result{}, err
		}
		after, err := e.Host.CPU(ctx)
		return Result{Value: (after - before).Seconds() / (float64(f.size(e)) / (1 << 30))}, err
	}
}

// emptySpace empties the directory, at the first round the whole filesystem.
func emptySpace(ctx context.Context, e *Env) (Result, error) {
	err := errors.Join(removeTree(ctx, e), removeFile(big(0).path(e)))
	if err != nil {
		return Result{}, err
	}
	n, err := storedAtRest(ctx, e)
	return Result{Value: float64(n) / 1e6}, err
}

// storedAtRest is what the filesystem takes once nothing waits to be written.
func storedAtRest(ctx context.Context, e *Env) (int64, error) {
	if _, err := e.Host.Remount(ctx); err != nil {
		return 0, err
	}
	return e.Host.Stored()
}

func spacePerByte(ctx context.Context, e *Env, size int64) (Result, error) {
	n, err := storedAtRest(ctx, e)
	return Result{Value: float64(n) / float64(max(size, 1))}, err
}

func treeSpace(ctx context.Context, e *Env) (Result, error) {
	var size int64
	err := filepath.WalkDir(e.path(treeDir), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return Result{}, err
	}
	return spacePerByte(ctx, e, size)
}

// stopwatch collects the times of single operations.
type stopwatch struct {
	start, last time.Time
	laps        []time.Duration
}

func newStopwatch(n int) *stopwatch {
	now := time.Now()
	return &stopwatch{start: now, last: now, laps: make([]time.Duration, 0, n)}
}

func (s *stopwatch) lap() {
	now := time.Now()
	s.laps = append(s.laps, now.Sub(s.last))
	s.last = now
}

// result is the rate of the operations until the last of them.
func (s *stopwatch) result() Result {
	r := rate(float64(len(s.laps)), s.last.Sub(s.start))
	r.Latencies = s.laps
	return r
}
