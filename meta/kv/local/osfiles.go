package local

import (
	"errors"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv/local/beneath"
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

// rel is the path of a segment below the store's directory.
func (d osFiles) rel(name string) string { return path.Join(filepath.Base(d.dir), name) }

// openFlags keep a hostile directory entry (symlink, FIFO) from being followed or waited for.
const openFlags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

func (d osFiles) Open(name string) (File, error)   { return d.open(name, 0) }
func (d osFiles) Create(name string) (File, error) { return d.open(name, os.O_CREATE|os.O_EXCL) }

func (d osFiles) open(name string, flags int) (File, error) {
	f, err := openBeneath(d.dir, name, os.O_RDWR|flags)
	if err != nil {
		return nil, err
	}
	return osFile{f, int(f.Fd())}, nil
}

// openBeneath opens a file of one of the store's directories. What is no plain file is kv.ErrCorrupt.
func openBeneath(dir, name string, flags int) (*os.File, error) {
	f, err := beneath.OpenFile(filepath.Dir(dir), path.Join(filepath.Base(dir), name), flags, 0o600)
	if errors.Is(err, beneath.ErrNotPlain) {
		return nil, notPlain(name)
	}
	return f, err
}

func (d osFiles) Remove(name string) error { return beneath.Remove(filepath.Dir(d.dir), d.rel(name)) }

func (d osFiles) SyncDir() error { return beneath.SyncDir(filepath.Dir(d.dir), filepath.Base(d.dir)) }

func (d osFiles) Free() (uint64, error) { return freeAt(d.dir) }

func (d osFiles) Has(bytes uint64) bool {
	dir, err := unix.Open(d.dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Fallocate(fd, 0, 0, max(int64(bytes), 1)) == nil
}

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

func (f osFile) WriteBack(off, n int64) {
	_ = unix.SyncFileRange(f.fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
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
