package trail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	Write(p []byte) (int, error)              // at the end
	WriteAt(p []byte, off int64) (int, error) // again, what a failed Sync may have lost
	Truncate(size int64) error
	Size() (int64, error)
	Sync() error
	Present() bool // it is still the file at its path
	Close() error
}

// osDisk is the disk of a stream's directory.
type osDisk struct{ dir string }

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
	f, err := os.OpenFile(s.plain(), os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
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
	return &osFile{f}, nil
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

// osFile is a segment on disk.
type osFile struct{ f *os.File }

func (o *osFile) Write(p []byte) (int, error) { return o.f.Write(p) }
func (o *osFile) Truncate(size int64) error   { return o.f.Truncate(size) }
func (o *osFile) Sync() error                 { return unix.Fdatasync(int(o.f.Fd())) }
func (o *osFile) Close() error                { return o.f.Close() }

// WriteAt uses a descriptor of its own: what is written through one with O_APPEND goes to the end.
func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", o.f.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.WriteAt(p, off)
}

func (o *osFile) Size() (int64, error) {
	st, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (o *osFile) Present() bool {
	var here, there unix.Stat_t // before every flush, so without what os makes of them
	if unix.Fstat(int(o.f.Fd()), &here) != nil || unix.Lstat(o.f.Name(), &there) != nil {
		return false
	}
	return here.Dev == there.Dev && here.Ino == there.Ino
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
	o.f = again.(*osFile).f
	return nil
}
