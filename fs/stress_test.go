package fs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// TestStress has several processes work at random on the same few names, and then checks that the volume is whole: links, directories, blocks.
func TestStress(t *testing.T) {
	const processes = 8
	long := 4 * time.Second
	if fstest.Long() {
		long = 5 * time.Minute
	}
	m := fstest.NewMount(t, fstest.Options{})
	seed := fstest.Seed()
	t.Logf("seed %d", seed)
	var children []*exec.Cmd
	for i := range processes {
		cmd := fstest.Command(t, "stress", m.Dir, strconv.FormatUint(seed+uint64(i), 10), long.String())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		children = append(children, cmd)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v (seed %d)", err, seed)
		}
	}
	m.Check()
	before := tree(t, m.Dir)
	m.Remount()
	compareTrees(t, before, tree(t, m.Dir))
	m.Check()
	if n := orphans(t, m); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}

func compareTrees(t *testing.T, before, after map[string]string) {
	t.Helper()
	for p, was := range before {
		if is := after[p]; is != was {
			t.Errorf("%s was %q and is %q", p, was, is)
		}
	}
	for p, is := range after {
		if before[p] == "" {
			t.Errorf("%s was not there and is %q", p, is)
		}
	}
}

// tree returns modes, sizes, link counts and inodes by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		list[p] = fmt.Sprintf("mode %o, %d bytes, %d links, inode %d", st.Mode, st.Size, st.Nlink, st.Ino)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// stressProgram is a child: DIR SEED DURATION. Any errno that a race with the others explains is right; all others are not.
func stressProgram(args []string) error {
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

// expected are the errnos that others' work explains.
var expected = []error{unix.ENOENT, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EINVAL, unix.ELOOP, unix.EPERM, unix.ENODATA, unix.ENXIO, unix.EBUSY}

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
		func() error { return s.tmpfile(q) },
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

// write makes or replaces a file. It does not wait for the reader of a fifo that another process put there.
func (s *stress) write(p string) error {
	fd, err := unix.Open(p, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
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
	fd, err := unix.Open(p, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	buf := make([]byte, s.rng.IntN(20_000))
	if _, err := unix.Pwrite(fd, buf, int64(s.rng.IntN(100_000))); err != nil {
		return err
	}
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(s.rng.IntN(50_000)), int64(1+s.rng.IntN(50_000))); err != nil {
		return err
	}
	if _, err := unix.Pread(fd, buf, int64(s.rng.IntN(100_000))); err != nil {
		return err
	}
	if s.rng.IntN(4) == 0 {
		return unix.Fsync(fd)
	}
	return nil
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
