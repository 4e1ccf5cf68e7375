package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	page    = 4 << 10
	chunk   = 1 << 20
	bigFile = "big"
)

// fileLoads are the loads on single files. All but the appends work on one
// big file, of 512 MiB at scale 1.
func fileLoads() []Load {
	return []Load{
		{Name: "sequential write, fsync", Unit: "MB/s", Run: writeBig},
		{Name: "sequential read, cold", Unit: "MB/s", Cold: true, Setup: ensureBig, Run: readBig},
		{Name: "sequential read, warm", Unit: "MB/s", Setup: warmBig, Run: readBig},
		{Name: "random read 4 KiB, cold", Unit: "op/s", Cold: true, Setup: ensureBig, Run: randomRead},
		{Name: "random write 4 KiB, one fsync", Unit: "op/s", Setup: ensureBig, Run: randomWrite},
		{Name: "random write 4 KiB + fdatasync", Unit: "op/s", Setup: ensureBig, Run: randomWriteSync},
		{Name: "append 512 B", Unit: "op/s", Run: appendPlain},
		{Name: "append 200 B + fdatasync", Unit: "op/s", Run: appendSync},
	}
}

func (e *Env) bigSize() int64 { return int64(e.count(512)) * chunk }

// fill makes b incompressible.
func fill(b []byte, r *rand.Rand) {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
}

// stamp writes into each page of b the number that it has in the file.
func stamp(b []byte, off int64) {
	for i := 0; i < len(b); i += page {
		binary.LittleEndian.PutUint64(b[i:], uint64(off+int64(i))/page)
	}
}

// checkStamps reports pages that are not what was written there.
func checkStamps(b []byte, off int64) error {
	for i := 0; i < len(b); i += page {
		if got, want := binary.LittleEndian.Uint64(b[i:]), uint64(off+int64(i))/page; got != want {
			return fmt.Errorf("page %d reads as page %d: wrong data", want, got)
		}
	}
	return nil
}

func ensureBig(ctx context.Context, e *Env) error {
	if info, err := os.Stat(e.path(bigFile)); err == nil && info.Size() == e.bigSize() {
		return nil
	}
	_, err := writeBig(ctx, e)
	return err
}

func warmBig(ctx context.Context, e *Env) error {
	if err := ensureBig(ctx, e); err != nil {
		return err
	}
	_, err := readBig(ctx, e)
	return err
}

// writeBig writes a new file; removing the old one is not timed.
func writeBig(ctx context.Context, e *Env) (Result, error) {
	if err := os.Remove(e.path(bigFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Result{}, err
	}
	if err := e.Sync(); err != nil {
		return Result{}, err
	}
	b := make([]byte, chunk)
	fill(b, e.random("big"))
	elapsed, err := timed(func() error {
		f, err := os.Create(e.path(bigFile))
		if err != nil {
			return err
		}
		defer f.Close()
		for off := int64(0); off < e.bigSize() && ctx.Err() == nil; off += chunk {
			stamp(b, off)
			if _, err := f.Write(b); err != nil {
				return err
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return f.Close()
	}, nil)
	return Result{Elapsed: elapsed, Work: float64(e.bigSize()) / 1e6}, errors.Join(err, ctx.Err())
}

func readBig(ctx context.Context, e *Env) (Result, error) {
	var total int64
	elapsed, err := timed(func() error {
		f, err := os.Open(e.path(bigFile))
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, chunk)
		for ctx.Err() == nil {
			n, err := io.ReadFull(f, b)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := checkStamps(b[:n], total); err != nil {
				return err
			}
			total += int64(n)
		}
		return ctx.Err()
	}, nil)
	if err == nil && total != e.bigSize() {
		err = fmt.Errorf("read %d bytes of %d", total, e.bigSize())
	}
	return Result{Elapsed: elapsed, Work: float64(total) / 1e6}, err
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
	return Result{Elapsed: elapsed, Work: float64(n), Latencies: latencies}, err
}

func randomRead(ctx context.Context, e *Env) (Result, error) {
	f, err := os.Open(e.path(bigFile))
	if err != nil {
		return Result{}, err
	}
	r, pages, b := e.random("random read"), e.bigSize()/page, make([]byte, page)
	return eachOp(ctx, f, e.count(5000), func(int) error {
		off := r.Int64N(pages) * page
		if _, err := f.ReadAt(b, off); err != nil {
			return err
		}
		return checkStamps(b, off)
	}, nil)
}

// writePages overwrites n random pages of the big file.
func writePages(ctx context.Context, e *Env, n int, sync bool) (Result, error) {
	f, err := os.OpenFile(e.path(bigFile), os.O_RDWR, 0)
	if err != nil {
		return Result{}, err
	}
	r, pages, b := e.random("random write"), e.bigSize()/page, make([]byte, page)
	fill(b, r)
	finish := f.Sync
	if sync {
		finish = nil
	}
	return eachOp(ctx, f, n, func(int) error {
		off := r.Int64N(pages) * page
		stamp(b, off)
		if _, err := f.WriteAt(b, off); err != nil || !sync {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	}, finish)
}

func randomWrite(ctx context.Context, e *Env) (Result, error) {
	return writePages(ctx, e, e.count(20000), false)
}

func randomWriteSync(ctx context.Context, e *Env) (Result, error) {
	return writePages(ctx, e, e.count(1000), true)
}

// appendTo appends n records of size bytes to a new file.
func appendTo(ctx context.Context, e *Env, name string, n, size int, sync bool) (Result, error) {
	if err := os.Remove(e.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
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
