package fstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Stress is a Program: DIR SEED DURATION. It does random operations on a few names that it shares with others of its kind, for that long. An errno that a race
// with the others explains is right; any other is an error.
func Stress(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: DIR SEED DURATION")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	long, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	s := &stress{dir: args[0], rng: rand.New(rand.NewPCG(seed, 2))}
	for end := time.Now().Add(long); time.Now().Before(end); s.count++ {
		if err := s.step(); err != nil {
			return fmt.Errorf("operation %d of seed %d: %w", s.count, seed, err)
		}
	}
	if s.done < 100 {
		return fmt.Errorf("only %d of %d operations succeeded", s.done, s.count)
	}
	return nil
}

type stress struct {
	dir         string
	rng         *rand.Rand
	count, done int
}

func (s *stress) path() string {
	p := s.dir
	for range 1 + s.rng.IntN(3) {
		p = filepath.Join(p, string(rune('a'+s.rng.IntN(6))))
	}
	return p
}

// errNotRegular: a name is something else than a regular file.
var errNotRegular = errors.New("not a regular file")

// expected are the errors that others' work explains.
var expected = []error{
	errNotRegular, unix.ENOENT, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EINVAL, unix.ELOOP, unix.EPERM, unix.ENODATA, unix.ENXIO, unix.EBUSY,
}

func (s *stress) step() error {
	p, q := s.path(), s.path()
	ops := []func() error{
		func() error { return s.write(p) },
		func() error { return s.write(p) },
		func() error { return unix.Mkdir(p, 0o755) },
		func() error { return unix.Mkdir(p, 0o755) },
		func() error { return unix.Rename(p, q) },
		func() error { return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE) },
		func() error { return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_NOREPLACE) },
		func() error { return unix.Link(p, q) },
		func() error { return unix.Symlink(q, p) },
		func() error { return unix.Unlink(p) },
		func() error { return unix.Rmdir(p) },
		func() error { return unix.Truncate(p, int64(s.rng.IntN(100_000))) },
		func() error { return unix.Chmod(p, 0o700|s.rng.Uint32N(0o100)) },
		func() error { return unix.Setxattr(p, "user.x", make([]byte, s.rng.IntN(100)), 0) },
		func() error { return unix.Removexattr(p, "user.x") },
		func() error { return unix.Mknod(p, unix.S_IFIFO|0o644, 0) },
		func() error { _, err := os.ReadDir(p); return err },
		func() error { return s.work(p) },
		func() error { return s.work(p) },
		func() error { return s.copy(p, q) },
		func() error { return s.tmpfile(q) },
		func() error { var st unix.Stat_t; return unix.Lstat(p, &st) },
		func() error { return s.times(p) },
		func() error {
			return unix.Fchownat(unix.AT_FDCWD, p, os.Geteuid(), os.Getegid(), unix.AT_SYMLINK_NOFOLLOW)
		},
		func() error { return s.syncDir(p) },
	}
	err := ops[s.rng.IntN(len(ops))]()
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	if err == nil {
		s.done++
	}
	return err
}

// write makes or replaces a file. A fifo that another process put there is left alone: whoever looks at it may be its reader for a moment.
func (s *stress) write(p string) error {
	fd, err := s.open(p, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for left := s.rng.IntN(30_000); left > 0; {
		n, err := unix.Write(fd, make([]byte, left))
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// work does several things with one open file.
func (s *stress) work(p string) error {
	fd, err := s.open(p, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, s.rng.IntN(20_000))
	if _, err := unix.Pwrite(fd, buf, int64(s.rng.IntN(100_000))); err != nil {
		return err
	}
	modes := []uint32{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
		unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
	}
	mode := modes[s.rng.IntN(len(modes))]
	if err := unix.Fallocate(fd, mode, int64(s.rng.IntN(50_000)), int64(1+s.rng.IntN(50_000))); err != nil {
		return err
	}
	if _, err := unix.Pread(fd, buf, int64(s.rng.IntN(100_000))); err != nil {
		return err
	}
	if _, err := unix.Seek(fd, int64(s.rng.IntN(100_000)), unix.SEEK_HOLE); err != nil && err != unix.ENXIO {
		return err
	}
	switch s.rng.IntN(8) {
	case 0:
		return unix.Fsync(fd)
	case 1:
		return unix.Fdatasync(fd)
	}
	return nil
}

// open opens a regular file, and nothing else: errNotRegular. It waits for nobody at a fifo.
func (s *stress) open(p string, flags int) (int, error) {
	fd, err := unix.Open(p, flags|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *stress) copy(from, to string) error {
	in, err := s.open(from, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := s.open(to, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	read, write := int64(s.rng.IntN(50_000)), int64(s.rng.IntN(50_000))
	_, err = unix.CopyFileRange(in, &read, out, &write, s.rng.IntN(50_000), 0) // EINVAL: one file, and the ranges overlap
	return err
}

func (s *stress) times(p string) error {
	at := []unix.Timespec{{Sec: s.rng.Int64N(1 << 31), Nsec: s.rng.Int64N(1e9)}, {Nsec: unix.UTIME_NOW}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, at, unix.AT_SYMLINK_NOFOLLOW)
}

func (s *stress) syncDir(p string) error {
	if s.rng.IntN(20) > 0 {
		return nil
	}
	fd, err := unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

func (s *stress) tmpfile(p string) error {
	fd, err := unix.Open(s.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, make([]byte, s.rng.IntN(10_000))); err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, p, unix.AT_SYMLINK_FOLLOW)
}
