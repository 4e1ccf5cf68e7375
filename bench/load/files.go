package load

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	page  = 4 << 10
	chunk = 1 << 20
)

// fileLoads are the loads on single files. All but the appends work on one
// big file.
func fileLoads() []Load {
	f := big(512)
	return []Load{
		{Name: "sequential write, fsync", Unit: "MB/s", Run: f.write},
		{Name: "sequential read, cold", Unit: "MB/s", Cold: true, Setup: f.ensure, Run: f.read},
		{Name: "sequential read, warm", Unit: "MB/s", Setup: f.warm, Run: f.read},
		{Name: "random read 4 KiB, cold", Unit: "op/s", Cold: true, Setup: f.ensure, Run: f.randomRead},
		{Name: "random write 4 KiB, one fsync", Unit: "op/s", Setup: f.ensure, Run: f.randomWrite},
		{Name: "random write 4 KiB + fdatasync", Unit: "op/s", Setup: f.ensure, Run: f.randomWriteSync},
		{Name: "append 512 B", Unit: "op/s", Run: appendPlain},
		{Name: "append 200 B + fdatasync", Unit: "op/s", Run: appendSync},
	}
}

// bigFileLoads are those on a file of so many GiB.
func bigFileLoads(gib int) []Load {
	f := big(gib << 10)
	name := func(s string) string { return fmt.Sprintf("file of %d GiB: %s", gib, s) }
	return []Load{
		{Name: name("write, fsync"), Unit: "MB/s", Setup: f.room, Run: f.write},
		{Name: name("read, cold"), Unit: "MB/s", Cold: true, Setup: f.ensure, Run: f.read},
		{Name: name("random read 4 KiB, cold"), Unit: "op/s", Cold: true, Setup: f.ensure, Run: f.randomRead},
		{Name: name("random write 4 KiB + fdatasync"), Unit: "op/s", Setup: f.ensure, Run: f.randomWriteSync},
		{Name: name("space per byte"), Unit: "B/B", Lower: true, Setup: f.ensure, Run: f.space},
		{Name: name("rm, sync"), Unit: "s", Lower: true, Setup: f.ensure, Run: f.remove},
	}
}

// eachOp times n operations one by one on an open file, and what finish does
// with it at the end.
func eachOp(ctx context.Context, f *os.File, n int, op func(i int) error, finish func() error) (Result, error) {
	defer f.Close()
	latencies := make([]time.Duration, 0, n)
	elapsed, err := timed(func() error {
		last := time.Now()
		for i := range n {
			if err := op(i); err != nil {
				return err
			}
			now := time.Now()
			latencies = append(latencies, now.Sub(last))
			last = now
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}, finish)
	result := rate(float64(n), elapsed)
	result.Latencies = latencies
	return result, err
}

// appendTo appends n records of size bytes to a new file.
func appendTo(ctx context.Context, e *Env, name string, n, size int, sync bool) (Result, error) {
	if err := removeFile(e.path(name)); err != nil {
		return Result{}, err
	}
	f, err := os.OpenFile(e.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return Result{}, err
	}
	b := make([]byte, size)
	fill(b, e.random(name))
	result, err := eachOp(ctx, f, n, func(int) error {
		if _, err := f.Write(b); err != nil || !sync {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	}, f.Close)
	if err != nil {
		return result, err
	}
	if info, err := os.Stat(e.path(name)); err != nil || info.Size() != int64(n*size) {
		return result, fmt.Errorf("%d appends of %d bytes: %v, %w", n, size, info, err)
	}
	return result, nil
}

func appendPlain(ctx context.Context, e *Env) (Result, error) {
	return appendTo(ctx, e, "append", e.count(100000), 512, false)
}

func appendSync(ctx context.Context, e *Env) (Result, error) {
	return appendTo(ctx, e, "log", e.count(1000), 200, true)
}
