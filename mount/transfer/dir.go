package transfer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// inode is the identity of a file on this machine.
type inode struct{ dev, ino uint64 }

func identity(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// dir is an open directory.
type dir struct {
	f  *os.File
	fd int
}

// openRoot opens a directory that the caller has named: symbolic links on the way are followed.
func openRoot(path string) (*dir, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return newDir(fd, path), nil
}

func newDir(fd int, name string) *dir { return &dir{os.NewFile(uintptr(fd), name), fd} }

func (d *dir) close() { _ = d.f.Close() }

// open opens an entry of the directory, which is no symbolic link and no mount point.
func (d *dir) open(name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Mode: uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	return retry(func() (int, error) { return unix.Openat2(d.fd, name, &how) })
}

// openQuietly is open for reading, without a change of the access time where that is the caller's to decide.
func (d *dir) openQuietly(name string, flags int) (int, error) {
	fd, err := d.open(name, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = d.open(name, flags, 0)
	}
	return fd, err
}

// dir opens a directory in this one.
func (d *dir) dir(name string) (*dir, error) {
	fd, err := d.openQuietly(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return newDir(fd, name), nil
}

// stat returns the attributes of an entry, a symbolic link's own.
func (d *dir) stat(name string) (st unix.Stat_t, err error) {
	_, err = retry(func() (int, error) { return 0, unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// names returns the names of all entries, in order.
func (d *dir) names() ([]string, error) {
	if _, err := d.f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := d.f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// retry repeats a call that a signal has interrupted, or that lost against a rename.
func retry(call func() (int, error)) (n int, err error) {
	for range 128 {
		if n, err = call(); err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	return n, err
}

// path names an open file, also one that was opened by O_PATH, for the calls that take no descriptor. No symbolic link is followed.
func path(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// above calls fn for the directory and each one above it, until it returns false.
func (d *dir) above(fn func(at *dir, id inode) bool) error {
	var last inode
	at := d
	defer func() {
		if at != d {
			at.close()
		}
	}()
	for {
		var st unix.Stat_t
		if err := unix.Fstat(at.fd, &st); err != nil {
			return err
		}
		if now := identity(&st); now == last || !fn(at, now) {
			return nil
		} else {
			last = now
		}
		up, err := unix.Openat(at.fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("look above a directory: %w", err)
		}
		if at != d {
			at.close()
		}
		at = newDir(up, "..")
	}
}

// within tells whether the directory d is top, or lies below it.
func (d *dir) within(top inode) (in bool, err error) {
	err = d.above(func(_ *dir, id inode) bool {
		in = id == top
		return !in
	})
	return in, err
}

// Inside returns what a directory, or one above it, is by the marks: the What of one of them, "" if nothing.
func Inside(path string, marks []Mark) (what string, err error) {
	d, err := openRoot(path)
	if err != nil {
		return "", err
	}
	defer d.close()
	err = d.above(func(at *dir, _ inode) bool {
		for _, m := range marks {
			if m.on(at) {
				what = m.What
			}
		}
		return what == ""
	})
	return what, err
}

// join makes a path for people, relative to the root.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// Names that the package uses for what is not complete, and for what is being destroyed.
const (
	partialPrefix = ".kmsfs-partial-"
	shredPrefix   = ".kmsfs-shred-"
	hashLen       = 32 // hexadecimal digits behind either
)

func isPartial(name string) bool { return isOwn(name, partialPrefix) }
func isShred(name string) bool   { return isOwn(name, shredPrefix) }

func isOwn(name, prefix string) bool {
	digits, ok := strings.CutPrefix(name, prefix)
	return ok && len(digits) == hashLen && strings.Trim(digits, "0123456789abcdef") == ""
}
