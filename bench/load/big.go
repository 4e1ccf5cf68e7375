package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// big is a file of so many MiB at scale 1, with data that cannot be
// compressed and has no holes.
type big int

func (f big) size(e *Env) int64 { return int64(e.count(int(f))) * chunk }

func (f big) path(e *Env) string { return e.path("big") }

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

// room fails early if the file would not fit.
func (f big) room(_ context.Context, e *Env) error {
	if err := removeFile(f.path(e)); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(e.Dir, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if free, need := int64(fs.Bavail)*fs.Bsize, f.size(e)/100*105; free < need {
		return fmt.Errorf("%d MiB are needed, %d are free: use another -dir, fewer -peers or a smaller -scale", need/chunk, free/chunk)
	}
	return nil
}

func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (f big) ensure(ctx context.Context, e *Env) error {
	if info, err := os.Stat(f.path(e)); err == nil && info.Size() == f.size(e) {
		return nil
	}
	if err := f.room(ctx, e); err != nil {
		return err
	}
	_, err := f.write(ctx, e)
	return err
}

func (f big) warm(ctx context.Context, e *Env) error {
	if err := f.ensure(ctx, e); err != nil {
		return err
	}
	_, err := f.read(ctx, e)
	return err
}

// write writes a new file; removing the old one is not timed.
func (f big) write(ctx context.Context, e *Env) (Result, error) {
	if err := errors.Join(removeFile(f.path(e)), e.Host.Sync()); err != nil {
		return Result{}, err
	}
	b := make([]byte, chunk)
	fill(b, e.random("big"))
	elapsed, err := timed(func() error { return writeFile(ctx, f.path(e), f.size(e), b) }, nil)
	return rate(float64(f.size(e))/1e6, elapsed), err
}

// writeFile writes a new file of b again and again, stamped, and syncs it.
func writeFile(ctx context.Context, name string, size int64, b []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for off := int64(0); off < size; off += int64(len(b)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		stamp(b, off)
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func (f big) read(ctx context.Context, e *Env) (Result, error) {
	var total int64
	elapsed, err := timed(func() error {
		file, err := os.Open(f.path(e))
		if err != nil {
			return err
		}
		defer file.Close()
		b := make([]byte, chunk)
		for ctx.Err() == nil {
			n, err := io.ReadFull(file, b)
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
	if err == nil && total != f.size(e) {
		err = fmt.Errorf("read %d bytes of %d", total, f.size(e))
	}
	return rate(float64(total)/1e6, elapsed), err
}

func (f big) randomRead(ctx context.Context, e *Env) (Result, error) {
	file, err := os.Open(f.path(e))
	if err != nil {
		return Result{}, err
	}
	r, pages, b := e.random("random read"), f.size(e)/page, make([]byte, page)
	return eachOp(ctx, file, e.count(5000), func(int) error {
		off := r.Int64N(pages) * page
		if _, err := file.ReadAt(b, off); err != nil {
			return err
		}
		return checkStamps(b, off)
	}, nil)
}

// writePages overwrites n random pages.
func (f big) writePages(ctx context.Context, e *Env, n int, sync bool) (Result, error) {
	file, err := os.OpenFile(f.path(e), os.O_RDWR, 0)
	if err != nil {
		return Result{}, err
	}
	r, pages, b := e.random("random write"), f.size(e)/page, make([]byte, page)
	fill(b, r)
	finish := file.Sync
	if sync {
		finish = nil
	}
	return eachOp(ctx, file, n, func(int) error {
		off := r.Int64N(pages) * page
		stamp(b, off)
		if _, err := file.WriteAt(b, off); err != nil || !sync {
			return err
		}
		return unix.Fdatasync(int(file.Fd()))
	}, finish)
}

func (f big) randomWrite(ctx context.Context, e *Env) (Result, error) {
	return f.writePages(ctx, e, e.count(20000), false)
}

func (f big) randomWriteSync(ctx context.Context, e *Env) (Result, error) {
	return f.writePages(ctx, e, e.count(1000), true)
}

// space is what the whole filesystem takes for the file, alone on it.
func (f big) space(ctx context.Context, e *Env) (Result, error) {
	return spacePerByte(ctx, e, f.size(e))
}

func (f big) remove(_ context.Context, e *Env) (Result, error) {
	elapsed, err := timed(func() error { return os.Remove(f.path(e)) }, e.Host.Sync)
	return seconds(elapsed), err
}
