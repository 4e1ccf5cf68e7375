package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// chunk is how much is read at a time, in bytes.
const chunk = 1 << 20

// nextData returns where the next data of a file is, size if there is none.
func nextData(fd int, off, size int64) (int64, error) {
	if off >= size {
		return size, nil
	}
	at, err := unix.Seek(fd, off, unix.SEEK_DATA)
	switch err {
	case nil:
		return min(at, size), nil
	case unix.ENXIO:
		return size, nil
	case unix.EINVAL: // a filesystem that does not say
		return off, nil
	}
	return 0, fmt.Errorf("look for data: %w", err)
}

// dataEnd returns where data that begins at off ends.
func dataEnd(fd int, off, size int64) (int64, error) {
	end, err := unix.Seek(fd, off, unix.SEEK_HOLE)
	switch err {
	case nil:
		return min(end, size), nil
	case unix.EINVAL, unix.ENXIO:
		return size, nil
	}
	return 0, fmt.Errorf("look for a hole: %w", err)
}

// readFull reads into all of b; errChanged if the file ends before.
func readFull(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := retry(func() (int, error) { return unix.Pread(fd, b, off) })
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return errChanged
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func writeFull(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := retry(func() (int, error) { return unix.Pwrite(fd, b, off) })
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// copyData copies what is data from where the copy ends. sink is told how many bytes the file is further, holes included.
func copyData(ctx context.Context, p *partial, src int, size int64, buf []byte, sink func(n int64)) (copied uint64, err error) {
	off := p.done
	sink(off)
	for off < size {
		if err := ctx.Err(); err != nil {
			return copied, err
		}
		from, err := nextData(src, off, size)
		if err != nil {
			return copied, err
		}
		end := from
		if from < size {
			if end, err = dataEnd(src, from, size); err != nil {
				return copied, err
			}
			end = min(end, from+int64(len(buf)))
			if err := readFull(src, buf[:end-from], from); err != nil {
				return copied, err
			}
			if err := writeFull(p.fd, buf[:end-from], from); err != nil {
				return copied, &targetError{err}
			}
		}
		copied += uint64(end - from)
		sink(end - off)
		off = end
		if off-p.done >= saveEvery && off < size {
			if err := p.note(off); err != nil {
				return copied, &targetError{err}
			}
		}
	}
	return copied, nil
}

// equal compares two files of the same size where either has data. Both are read past what the kernel has cached of them, as far as it can forget that.
func equal(ctx context.Context, a, b int, size int64, bufA, bufB []byte, sink func(n int64)) (bool, error) {
	_ = unix.Fadvise(a, 0, 0, unix.FADV_DONTNEED)
	_ = unix.Fadvise(b, 0, 0, unix.FADV_DONTNEED)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		from, err := nextData(a, off, size)
		if err != nil {
			return false, err
		}
		fromB, err := nextData(b, off, size)
		if err != nil {
			return false, &targetError{err}
		}
		from = min(from, fromB)
		n := min(size-from, int64(len(bufA)))
		if err := readFull(a, bufA[:n], from); err != nil {
			return false, err
		}
		if err := readFull(b, bufB[:n], from); err != nil {
			return false, &targetError{err}
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
		sink(from + n - off)
		off = from + n
	}
	return true, nil
}

// targetError is an error of the copy, not of the original.
type targetError struct{ err error }

func (e *targetError) Error() string { return e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }
