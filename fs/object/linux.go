package object

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// resolve is how every path below the directory is walked: what lies there
// was possibly put there by somebody else.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// kernel is the Lower that makes system calls.
type kernel struct {
	dir *os.File

	maxOnce sync.Once
	maxSize int64
}

// OpenLower opens the directory at path, which must not be a link, as Open does without Options.Lower: for those who put something of their own in
// between.
func OpenLower(path string) (Lower, error) { return openKernel(path) }

func openKernel(path string) (*kernel, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open objects directory: %w", err)
	}
	return &kernel{dir: os.NewFile(uintptr(fd), path)}, nil
}

func (k *kernel) fd() int { return int(k.dir.Fd()) }

// openAt is openat2 below the directory, repeated while a signal or a rename
// elsewhere interrupts it (EAGAIN, see openat2(2), RESOLVE_BENEATH).
func (k *kernel) openAt(path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Mode: uint64(mode), Resolve: resolve}
	for {
		fd, err := unix.Openat2(k.fd(), path, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENXIO) ||
			errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENODEV):
			return -1, fmt.Errorf("%w: %w", ErrHostile, err)
		default:
			return -1, err
		}
	}
}

func (k *kernel) OpenFile(path string, create bool) (LowerFile, error) {
	flags := unix.O_RDWR | unix.O_NONBLOCK | unix.O_NOCTTY
	var mode uint32
	if create {
		flags |= unix.O_CREAT | unix.O_EXCL
		mode = 0o600
	}
	fd, err := k.openAt(path, flags, mode)
	if err != nil {
		return nil, err
	}
	if err := admit(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return kernelFile(fd), nil
}

// admit is nil for a regular file of one name, ENOENT for one whose name has been removed since it was opened, else ErrHostile.
func admit(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 {
		return fmt.Errorf("mode %o, %d links: %w", st.Mode, st.Nlink, ErrHostile)
	}
	if st.Nlink == 0 {
		return unix.ENOENT
	}
	return nil
}

func (k *kernel) Mkdir(path string) error {
	return ignoringEINTR(func() error { return unix.Mkdirat(k.fd(), path, 0o700) })
}

// Unlink removes the name below its directory, opened without following a
// link: unlinkat(2) itself would follow one in the first component.
func (k *kernel) Unlink(path string) error {
	dir, err := k.openAt(path[:2], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return ignoringEINTR(func() error { return unix.Unlinkat(dir, path[3:], 0) })
}

func (k *kernel) ReadDir(path string, fn func(name string) bool) error {
	if path == "" {
		path = "."
	}
	fd, err := k.openAt(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if !fn(name) {
				return nil
			}
		}
		if len(names) == 0 {
			return ignoringEOF(err)
		}
	}
}

func (k *kernel) SyncDir(path string) error {
	if path == "" {
		return ignoringEINTR(func() error { return unix.Fsync(k.fd()) })
	}
	fd, err := k.openAt(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return ignoringEINTR(func() error { return unix.Fsync(fd) })
}

func (k *kernel) SyncAll() error {
	return ignoringEINTR(func() error { return unix.Syncfs(k.fd()) })
}

func (k *kernel) Space() (Space, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Fstatfs(k.fd(), &st) }); err != nil {
		return Space{}, err
	}
	k.maxOnce.Do(k.probeMaxSize)
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return Space{
		Total: st.Blocks * unit, Free: st.Bfree * unit, Avail: st.Bavail * unit,
		Files: st.Files, FilesFree: st.Ffree, MaxFileSize: k.maxSize,
	}, nil
}

// probeMaxSize finds the largest length that the filesystem takes, with a
// nameless file that holds no data. Where there are no nameless files the
// limit is left to the write that hits it.
func (k *kernel) probeMaxSize() {
	k.maxSize = 1<<63 - 1
	fd, err := k.openAt(".", unix.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var size int64
	for bit := int64(1) << 62; bit >= 4096; bit >>= 1 {
		if unix.Ftruncate(fd, size|bit) == nil {
			size |= bit
		}
	}
	k.maxSize = size
}

func (k *kernel) Close() error { return k.dir.Close() }

// kernelFile is a file descriptor.
type kernelFile int

func (f kernelFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(int(f), p[done:], off+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return done, err
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

func (f kernelFile) WriteAt(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(int(f), p, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.EIO
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (f kernelFile) Datasync() error {
	return ignoringEINTR(func() error { return unix.Fdatasync(int(f)) })
}

func (f kernelFile) WriteBack(off, n int64) {
	_ = unix.SyncFileRange(int(f), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func (f kernelFile) ReadAhead(off, n int64) {
	_ = unix.Fadvise(int(f), off, n, unix.FADV_WILLNEED)
}

func (f kernelFile) Punch(off, n int64) error {
	return ignoringEINTR(func() error {
		return unix.Fallocate(int(f), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (f kernelFile) Truncate(size int64) error {
	return ignoringEINTR(func() error { return unix.Ftruncate(int(f), size) })
}

func (f kernelFile) Stat() (size, allocated int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f), &st); err != nil {
		return 0, 0, err
	}
	return st.Size, st.Blocks * 512, nil
}

func (f kernelFile) Close() error { return unix.Close(int(f)) }

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
