package powercut

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// target is a tree that operations are made on.
type target interface {
	// do makes one operation. It returns nil when it is acknowledged.
	do(o op) error
	// look reads everything.
	look() (*observed, error)
	// release closes what operations left open.
	release() error
}

// mounted is a target by system calls below a directory.
type mounted struct {
	dir  string
	keep bool                // files that were written to stay open until release
	open map[uint64]*os.File // by inode number
}

func (m *mounted) path(p string) string { return filepath.Join(m.dir, p) }

func (m *mounted) do(o op) error {
	switch o.kind {
	case opCreate:
		f, err := os.OpenFile(m.path(o.path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		return m.leave(f)
	case opMkdir:
		return os.Mkdir(m.path(o.path), 0o755)
	case opSymlink:
		return os.Symlink(o.to, m.path(o.path))
	case opRename:
		return os.Rename(m.path(o.path), m.path(o.to))
	case opLink:
		return os.Link(m.path(o.path), m.path(o.to))
	case opUnlink:
		return unix.Unlink(m.path(o.path))
	case opRmdir:
		return unix.Rmdir(m.path(o.path))
	case opSetxattr:
		return unix.Setxattr(m.path(o.path), xattrName, pattern(20, o.seed), 0)
	case opFsyncDir:
		return m.syncDir(o.path)
	}
	return m.change(o)
}

func (m *mounted) syncDir(path string) error {
	d, err := os.Open(m.path(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// change makes an operation on an open file.
func (m *mounted) change(o op) error {
	f, err := m.opened(o.path)
	if err != nil {
		return err
	}
	fd := int(f.Fd())
	switch o.kind {
	case opWrite:
		_, err = f.WriteAt(o.data(), o.off)
	case opTruncate:
		err = f.Truncate(o.off)
	case opPunch, opZero:
		err = unix.Fallocate(fd, o.mode(), o.off, o.n)
	case opFsync:
		err = unix.Fsync(fd)
	case opFdata:
		err = unix.Fdatasync(fd)
	default:
		err = fmt.Errorf("no such operation: %s", o)
	}
	return errors.Join(err, m.leave(f))
}

// opened returns the file at path, the one kept open if there is one.
func (m *mounted) opened(path string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Lstat(m.path(path), &st); err != nil {
		return nil, err
	}
	if f := m.open[st.Ino]; f != nil {
		return f, nil
	}
	return os.OpenFile(m.path(path), os.O_RDWR, 0)
}

// leave closes f, or keeps it.
func (m *mounted) leave(f *os.File) error {
	if !m.keep {
		return f.Close()
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return errors.Join(err, f.Close())
	}
	if m.open == nil {
		m.open = map[uint64]*os.File{}
	}
	m.open[st.Ino] = f
	return nil
}

func (m *mounted) release() error {
	var errs []error
	for _, f := range m.open {
		errs = append(errs, f.Close())
	}
	m.open = nil
	return errors.Join(errs...)
}

func (m *mounted) look() (*observed, error) {
	found := newObserved()
	err := filepath.WalkDir(m.dir, func(path string, _ iofs.DirEntry, err error) error {
		if err != nil || path == m.dir {
			return err
		}
		return m.lookAt(found, path)
	})
	return found, err
}

func (m *mounted) lookAt(found *observed, path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	e := entry{ino: st.Ino, links: int(st.Nlink)}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.kind = kindDir
	case unix.S_IFLNK:
		e.kind = kindSymlink
		e.target, err = os.Readlink(path)
	default:
		e.kind = kindFile
		found.data[st.Ino], err = readAll(path, st.Size)
	}
	if err != nil {
		return err
	}
	if e.kind != kindSymlink {
		value := make([]byte, 64)
		n, err := unix.Lgetxattr(path, xattrName, value)
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("getxattr %s: %w", path, err)
		}
		e.xattr = string(value[:max(n, 0)])
	}
	found.entries[strings.TrimPrefix(path, m.dir+"/")] = e
	return nil
}

// readAll reads a file that must have size bytes.
func readAll(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err == nil && int64(len(b)) != size {
		err = fmt.Errorf("%s: %d bytes read, size %d", path, len(b), size)
	}
	return b, err
}
