package trail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk is what the writer needs of the directory of its stream; tests put faults in between.
type disk interface {
	// Create makes a segment with its header, durably, and opens it. ErrExist if there is one.
	Create(s segment, header []byte) (segmentFile, error)
	// Open opens a segment for appending.
	Open(s segment) (segmentFile, error)
	// SetReserve makes the reserve n bytes long, with blocks behind it.
	SetReserve(n int64) error
}

// segmentFile is a segment that is written.
type segmentFile interface {
	Write(p []byte) (int, error)              // at the end of what was written; of a file just opened, at its end
	WriteAt(p []byte, off int64) (int, error) // again, what a failed Sync may have lost
	Truncate(size int64) error
	Size() (int64, error) // with the zeros behind the end
	Sync() error
	Present() bool // it is still the file at its path
	Close() error
}

// osDisk is the disk of a stream's directory.
type osDisk struct {
	dir   string
	ahead int64 // space made behind a segment's end at a time, in bytes; 0: none
}

const fileMode = 0o600

// prepareDir makes a directory for us alone, or checks that it is.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o077 != 0 || int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		return fmt.Errorf("%w: %s must be a directory of uid %d with mode 0700, it has uid %d and mode %04o", ErrUnsafe, dir, os.Geteuid(), st.Uid, st.Mode&0o7777)
	}
	return nil
}

func (d osDisk) Create(s segment, header []byte) (segmentFile, error) {
	tmp, err := os.CreateTemp(d.dir, ".new-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(header)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), s.plain()); err != nil {
		return nil, err
	}
	if err := syncDir(d.dir); err != nil {
		return nil, err
	}
	return d.Open(s)
}

func (d osDisk) Open(s segment) (segmentFile, error) {
	f, err := os.OpenFile(s.plain(), os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%w: %s is %s", ErrUnsafe, s.plain(), st.Mode())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	id := st.Sys().(*syscall.Stat_t)
	return &osFile{f: f, id: fileID{id.Dev, id.Ino}, end: st.Size(), size: st.Size(), ahead: d.ahead}, nil
}

func (d osDisk) SetReserve(n int64) error {
	f, err := os.OpenFile(filepath.Join(d.dir, reserveName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() > n {
		return f.Truncate(n)
	}
	if n == 0 {
		return nil
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, n)
	if errors.Is(err, unix.EOPNOTSUPP) { // there is no reserve on such a filesystem: what is written there takes no space that could be given back
		return f.Truncate(0)
	}
	if err != nil {
		_ = f.Truncate(st.Size())
	}
	return err
}

// osFile is a segment on disk. Behind its end there may be zeros: blocks that are written already, so that a flush has no metadata to write.
type osFile struct {
	f     *os.File
	id    fileID
	end   int64 // of what was written
	size  int64 // of the file
	ahead int64 // how many zeros are written at a time; 0: none
}

type fileID struct{ dev, ino uint64 }

func (o *osFile) Write(p []byte) (int, error) {
	if end := o.end + int64(len(p)); o.ahead > 0 && end > o.size {
		o.makeRoom(end)
	}
	n, err := o.f.WriteAt(p, o.end)
	o.end += int64(n)
	o.size = max(o.size, o.end)
	return n, err
}

// makeRoom writes zeros from end on. Where there is no space for them, the file grows by what is written, from now on.
func (o *osFile) makeRoom(end int64) {
	const piece = 64 << 10
	zeros := make([]byte, piece)
	for off := end; off < end+o.ahead; off += piece {
		if _, err := o.f.WriteAt(zeros[:min(piece, end+o.ahead-off)], off); err != nil {
			o.ahead = 0
			_ = o.Truncate(o.end)
			return
		}
	}
	o.size = end + o.ahead
}

func (o *osFile) Truncate(size int64) error {
	if err := o.f.Truncate(size); err != nil {
		return err
	}
	o.end, o.size = size, size
	return nil
}

func (o *osFile) WriteAt(p []byte, off int64) (int, error) { return o.f.WriteAt(p, off) }
func (o *osFile) Sync() error                              { return unix.Fdatasync(int(o.f.Fd())) }

// Close gives the space behind the end back, if it can.
func (o *osFile) Close() error {
	if o.size > o.end {
		_ = o.f.Truncate(o.end)
	}
	return o.f.Close()
}

func (o *osFile) Size() (int64, error) {
	st, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (o *osFile) Present() bool {
	var there unix.Statx_t // before every flush, and without its times: the kernel would count each write after a look at them as a change that the flush has to write, too
	err := unix.Statx(unix.AT_FDCWD, o.f.Name(), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO, &there)
	return err == nil && unix.Mkdev(there.Dev_major, there.Dev_minor) == o.id.dev && there.Ino == o.id.ino
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFile replaces a file durably.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Rescue writes a segment that is not at its path any more there again, and has f write to it from now on.
func (d osDisk) Rescue(s segment, f segmentFile) error {
	o, ok := f.(*osFile)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := prepareDir(d.dir); err != nil {
		return err
	}
	old, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", o.f.Fd()))
	if err != nil {
		return err
	}
	defer old.Close()
	tmp, err := os.CreateTemp(d.dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, old)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), s.plain()); err != nil {
		return err
	}
	if err := syncDir(d.dir); err != nil {
		return err
	}
	again, err := d.Open(s)
	if err != nil {
		return err
	}
	_ = o.f.Close()
	o.f, o.id = again.(*osFile).f, again.(*osFile).id
	return nil
}
