package local

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// osFiles is a directory of the operating system.
type osFiles struct{ dir string }

// List refuses a journal that is a link: its segments are written over.
func (d osFiles) List() ([]string, error) {
	if err := checkDir(d.dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// openFlags keep a hostile directory entry (symlink, FIFO) from being followed or waited for.
const openFlags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

func (d osFiles) Open(name string) (File, error)   { return d.open(name, 0) }
func (d osFiles) Create(name string) (File, error) { return d.open(name, os.O_CREATE|os.O_EXCL) }

func (d osFiles) open(name string, flags int) (File, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), openFlags|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !isPlain(st) {
		f.Close()
		return nil, errors.Join(err, notPlain(name))
	}
	return osFile{f, int(f.Fd())}, nil
}

func (d osFiles) Remove(name string) error { return os.Remove(filepath.Join(d.dir, name)) }

func (d osFiles) SyncDir() error { return syncDir(d.dir) }

func (d osFiles) Free() (uint64, error) { return freeAt(d.dir) }

// freeAt returns the free bytes of the filesystem of a directory.
func freeAt(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// osFile adds what os.File lacks.
type osFile struct {
	*os.File
	fd int
}

// errGone: a file was written and synced that nobody will find again.
var errGone = errors.New("somebody removed it")

// Datasync fails if the file has lost its name. It asks for the number of names alone: since Linux 6.13 whoever asks for the times of a file makes the next write
// to it change them, and every fdatasync then writes the inode too.
func (f osFile) Datasync() error {
	if err := datasync(f.fd); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := unix.Statx(f.fd, "", unix.AT_EMPTY_PATH, unix.STATX_NLINK, &st); err != nil {
		return os.NewSyscallError("statx", err)
	}
	if st.Nlink == 0 {
		return errGone
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func datasync(fd int) error {
	for {
		if err := unix.Fdatasync(fd); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
