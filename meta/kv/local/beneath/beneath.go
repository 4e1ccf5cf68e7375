// Package beneath opens files below a directory in which somebody else may put what he likes: links, pipes, devices, second names of files elsewhere. Nothing on
// the way is followed, nothing is waited for, and what is opened is a regular file with one name.
//
// It does not know what the files are. Its functions hold no state.
package beneath

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrNotPlain: what lies there is no regular file, or has a second name.
var ErrNotPlain = errors.New("not a regular file, or it has a second name")

const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// OpenFile opens or makes the file at a relative path below root, whose own path is followed: it is the caller's. flags and perm are those of open(2).
// Errors: ErrNotPlain; the system's, ELOOP for a link and EXDEV for a path that leads out of root among them.
func OpenFile(root, rel string, flags int, perm os.FileMode) (*os.File, error) {
	dir, err := openRoot(root)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := openAt(dir, rel, flags&^unix.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, uint64(perm.Perm()))
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(root, rel), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", filepath.Join(root, rel), errors.Join(err, ErrNotPlain))
	}
	f := os.NewFile(uintptr(fd), filepath.Join(root, rel))
	if flags&unix.O_TRUNC != 0 { // not before it is known what it is
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// Remove removes a file's name.
func Remove(root, rel string) error {
	return within(root, rel, "remove", func(dir int, name string) error { return unix.Unlinkat(dir, name, 0) })
}

// Rename gives a file another name in its directory, in place of what has it.
func Rename(root, rel, name string) error {
	return within(root, rel, "rename", func(dir int, old string) error { return unix.Renameat(dir, old, dir, name) })
}

// SyncDir makes the names in a directory durable; "." is root itself.
func SyncDir(root, rel string) error {
	return within(root, path.Join(rel, "x"), "sync", func(dir int, _ string) error { return unix.Fsync(dir) })
}

// within calls fn with the directory that the file at rel lies in, and its name there.
func within(root, rel, op string, fn func(dir int, name string) error) error {
	top, err := openRoot(root)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	fd, err := openAt(top, path.Dir(rel), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		defer unix.Close(fd)
		for err = unix.EINTR; err == unix.EINTR; {
			err = fn(fd, path.Base(rel))
		}
	}
	if err != nil {
		return &os.PathError{Op: op, Path: filepath.Join(root, rel), Err: err}
	}
	return nil
}

func openRoot(root string) (int, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return fd, nil
}

// openAt is openat2, repeated while a signal or a rename elsewhere interrupts it.
func openAt(dir int, rel string, flags int, mode uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: resolve}
	if flags&unix.O_CREAT != 0 {
		how.Mode = mode
	}
	for {
		fd, err := unix.Openat2(dir, rel, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
