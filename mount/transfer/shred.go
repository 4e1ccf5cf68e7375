package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"

	"golang.org/x/sys/unix"
)

// shredder is the third pass: it destroys originals whose copies are equal and durable. A file is first given a name under which no run takes it for an
// original, so that an interruption never leaves one that is half overwritten; what has such a name is finished by the next run.
type shredder struct{ *run }

func (s *shredder) enter(_ context.Context, e *entry) (*dir, bool, error) {
	d, err := e.dst.dir(e.name)
	if err != nil {
		return nil, false, s.issue(e.full(), Kept, err)
	}
	return d, true, nil
}

// begin finishes what an earlier run has begun.
func (s *shredder) begin(_ context.Context, p *place, names []string) error {
	for _, name := range names {
		if !isShred(name) {
			continue
		}
		if err := s.destroy(p.src, name); err != nil {
			return s.issue(join(p.path, name), Kept, err)
		}
		s.sum.Shredded++
	}
	return nil
}

func (s *shredder) gone(string) error { return nil }

// leave destroys the files of a directory that were renamed, and then removes its directories that are empty.
func (s *shredder) leave(ctx context.Context, p *place) error {
	if err := unix.Fsync(p.src.fd); err != nil { // the old names must not come back in front of what is overwritten
		return s.issue(p.path, Kept, err)
	}
	names, err := p.src.names()
	if err != nil {
		return s.issue(p.path, Kept, err)
	}
	if err := s.begin(ctx, p, names); err != nil {
		return err
	}
	for _, name := range names {
		st, err := p.src.stat(name)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || s.reported[join(p.path, name)] || s.flawed[join(p.path, name)] {
			continue
		}
		if err := unix.Unlinkat(p.src.fd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOTEMPTY && err != unix.EBUSY {
			return s.issue(join(p.path, name), Kept, err)
		}
	}
	return nil
}

func (s *shredder) other(ctx context.Context, e *entry) error {
	if s.flawed[e.full()] { // it was reported
		return nil
	}
	if e.kind() != unix.S_IFREG {
		ok, err := sameNode(e)
		if err == nil && !ok {
			err = errSince
		}
		if err == nil {
			err = unix.Unlinkat(e.src.fd, e.name, 0)
		}
		if err != nil {
			return s.issue(e.full(), Kept, err)
		}
		return nil
	}
	err := s.ready(ctx, e)
	if err == nil {
		err = s.take(e)
	}
	s.meter.add(1, uint64(e.st.Size))
	if err != nil {
		return s.issue(e.full(), Kept, err)
	}
	return nil
}

// ready tells whether an original may be destroyed: its copy is equal, nobody has it open, and all its names are in the tree.
func (s *shredder) ready(ctx context.Context, e *entry) error {
	there, err := e.dst.stat(e.name)
	if err != nil {
		return fmt.Errorf("its copy: %w", err)
	}
	if there.Mode&unix.S_IFMT != unix.S_IFREG || there.Size != e.st.Size || !sameTime(&there, &e.st) {
		return errSince
	}
	if t := s.twins[identity(&e.st)]; e.st.Nlink > 1 && (t == nil || t.names < uint64(e.st.Nlink)) {
		return errors.New("it has names outside of the tree")
	}
	if err := alone(e); err != nil {
		return err
	}
	if !e.quietSince(s.verified.Unix()) {
		before := s.meter.now
		_, err := s.compare(ctx, e)
		s.meter.now = before
		return err
	}
	return nil
}

// quietSince tells whether nothing about the file has changed since some time before t, in seconds of the epoch.
func (e *entry) quietSince(t int64) bool { return e.st.Ctim.Sec < t-2 }

// alone fails if anybody has the file open: the kernel grants a lease for writing only otherwise. Some filesystems have none.
func alone(e *entry) error {
	fd, err := e.src.openQuietly(e.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	switch err {
	case nil:
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return err
	case unix.EAGAIN:
		return errInUse
	}
	return nil
}

// take renames an original; one of several names of a file is removed, and its last one renamed.
func (s *shredder) take(e *entry) error {
	if e.st.Nlink > 1 {
		if err := unix.Unlinkat(e.src.fd, e.name, 0); err != nil {
			return err
		}
		s.twins[identity(&e.st)].names--
		return nil
	}
	err := unix.Renameat2(e.src.fd, e.name, e.src.fd, ownName(shredPrefix, e.name), unix.RENAME_NOREPLACE)
	if err == unix.EINVAL {
		err = unix.Renameat(e.src.fd, e.name, e.src.fd, ownName(shredPrefix, e.name))
	}
	return err
}

// destroy overwrites what a file holds, makes that durable, and removes the file.
func (s *shredder) destroy(in *dir, name string) error {
	fd, err := in.open(name, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err == unix.EACCES { // the owner may give himself the right to write
		fd, err = s.openReadOnly(in, name)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return errors.New("it is no file with one name")
	}
	if err := s.overwrite(fd, st.Size); err != nil {
		return err
	}
	return unix.Unlinkat(in.fd, name, 0)
}

func (s *shredder) openReadOnly(in *dir, name string) (int, error) {
	ro, err := in.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(ro)
	if err := unix.Fchmod(ro, 0o600); err != nil {
		return -1, err
	}
	return in.open(name, unix.O_RDWR|unix.O_NONBLOCK, 0)
}

// overwrite writes random bytes over all data of a file; holes stay holes.
func (s *shredder) overwrite(fd int, size int64) error {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // it does not fail
	noise := mathrand.NewChaCha8(seed)
	for off := int64(0); off < size; {
		from, err := nextData(fd, off, size)
		if err != nil || from == size {
			return errors.Join(err, unix.Fsync(fd))
		}
		end, err := dataEnd(fd, from, size)
		if err != nil {
			return err
		}
		n := min(end-from, int64(len(s.a)))
		_, _ = noise.Read(s.a[:n])
		if err := writeFull(fd, s.a[:n], from); err != nil {
			return err
		}
		off = from + n
	}
	return unix.Fsync(fd)
}
