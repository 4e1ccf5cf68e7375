package transfer

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attempts is how often a file that changes while it is read is tried.
const attempts = 3

// copier is the first pass: it makes what is not there yet.
type copier struct{ *run }

// link is where the first name of a file with several ones is in the target.
type link struct {
	dir, name string
	at        inode // of the copy
}

func (c *copier) enter(_ context.Context, e *entry) (*dir, bool, error) {
	err := unix.Mkdirat(e.dst.fd, e.name, 0o700)
	if err != nil && err != unix.EEXIST {
		return nil, false, c.issue(e.full(), Unwritable, err)
	}
	d, err := e.dst.dir(e.name)
	switch err {
	case nil:
		return d, true, nil
	case unix.ENOTDIR, unix.ELOOP:
		return nil, false, c.tell(e.full(), Conflict, "something that is no directory has its name in the target")
	case unix.EXDEV:
		return nil, false, c.tell(e.full(), Conflict, "another filesystem is mounted there in the target")
	}
	return nil, false, c.issue(e.full(), Unwritable, err)
}

func (c *copier) begin(_ context.Context, p *place, names []string) error {
	c.sum.Directories++
	if err := sweep(p.dst, names); err != nil {
		return c.issue(p.path, Unwritable, err)
	}
	return nil
}

func (c *copier) gone(path string) error { return c.tell(path, Changed, "it has gone meanwhile") }

// leave sets the attributes of a directory when nothing changes its times any more. What fails is the second pass's to report.
func (c *copier) leave(_ context.Context, p *place) error {
	if p.path != "" || c.cfg.RootAttributes {
		carry(p.src.fd, &p.st, p.dst.fd)
	}
	return nil
}

func (c *copier) other(ctx context.Context, e *entry) error {
	switch e.kind() {
	case unix.S_IFREG:
		return c.file(ctx, e)
	case unix.S_IFLNK:
		return c.symlink(e)
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return c.special(e)
	}
	return c.tell(e.full(), Skipped, fmt.Sprintf("a file of an unknown type, mode %o", e.st.Mode))
}

// file copies a regular file, unless its copy is there.
func (c *copier) file(ctx context.Context, e *entry) error {
	if first := c.links[identity(&e.st)]; first != nil {
		return c.hardLink(e, first)
	}
	before := c.meter.now
	there, err := e.dst.stat(e.name)
	switch {
	case err == unix.ENOENT:
		err = c.copied(ctx, e, false)
	case err != nil:
	case there.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errConflict
	case sameTime(&there, &e.st) && there.Size == e.st.Size:
	case sameTime(&there, &e.st) || c.cfg.Update: // of this state of the original, and cut short; or to be replaced
		err = c.copied(ctx, e, true)
	default:
		err = errConflict
	}
	c.meter.now = before
	c.meter.add(1, uint64(e.st.Size))
	if err != nil {
		return c.fileIssue(e, err)
	}
	c.sum.Files++
	if e.st.Nlink > 1 {
		return c.first(e)
	}
	return nil
}

var errConflict = errors.New("another file has its name in the target; --update replaces it")

// fileIssue reports why there is no copy.
func (c *run) fileIssue(e *entry, err error) error {
	var target *targetError
	switch {
	case errors.Is(err, errConflict):
		return c.tell(e.full(), Conflict, err.Error())
	case errors.Is(err, errChanged), errors.Is(err, unix.ENOENT):
		return c.issue(e.full(), Changed, err)
	case errors.As(err, &target):
		return c.issue(e.full(), Unwritable, err)
	}
	return c.issue(e.full(), Unreadable, err)
}

// first notes where the first name of a file is.
func (c *copier) first(e *entry) error {
	st, err := e.dst.stat(e.name)
	if err != nil {
		return c.issue(e.full(), Unwritable, err)
	}
	c.links[identity(&e.st)] = &link{dir: e.place.path, name: e.name, at: identity(&st)}
	return nil
}

// hardLink gives the copy a further name.
func (c *copier) hardLink(e *entry, first *link) error {
	there, err := e.dst.stat(e.name)
	switch {
	case err == nil && identity(&there) == first.at:
		c.sum.Links++
		return nil
	case err == nil && there.Mode&unix.S_IFMT == unix.S_IFREG && (sameTime(&there, &e.st) || c.cfg.Update):
		err = unix.Unlinkat(e.dst.fd, e.name, 0)
	case err == nil:
		return c.tell(e.full(), Conflict, errConflict.Error())
	case err == unix.ENOENT:
		err = nil
	}
	if err == nil {
		err = c.linkTo(e, first)
	}
	if err != nil {
		return c.issue(e.full(), Unwritable, fmt.Errorf("link to %s: %w", join(first.dir, first.name), err))
	}
	c.sum.Links++
	return nil
}

func (c *copier) linkTo(e *entry, first *link) error {
	from := first.dir
	if from == "" {
		from = "."
	}
	how := unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(c.dst.fd, from, &how) })
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, first.name, e.dst.fd, e.name, 0)
}

func (c *copier) symlink(e *entry) error {
	to, err := readlink(e.src, e.name)
	if err != nil {
		return c.issue(e.full(), Unreadable, err)
	}
	err = unix.Symlinkat(to, e.dst.fd, e.name)
	if err == unix.EEXIST {
		if there, lerr := readlink(e.dst, e.name); lerr == nil && there == to {
			err = nil
		} else {
			return c.tell(e.full(), Conflict, "something else has its name in the target")
		}
	}
	if err != nil {
		return c.issue(e.full(), Unwritable, err)
	}
	c.sum.Symlinks++
	return c.attributes(e)
}

func readlink(d *dir, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.fd, name, b)
	return string(b[:max(n, 0)]), err
}

func (c *copier) special(e *entry) error {
	err := unix.Mknodat(e.dst.fd, e.name, e.st.Mode&^0o7000, int(e.st.Rdev))
	if err == unix.EEXIST {
		there, serr := e.dst.stat(e.name)
		if serr != nil || there.Mode&unix.S_IFMT != e.kind() || there.Rdev != e.st.Rdev {
			return c.tell(e.full(), Conflict, "something else has its name in the target")
		}
		err = nil
	}
	if err != nil {
		return c.issue(e.full(), Unwritable, err)
	}
	c.sum.Specials++
	return c.attributes(e)
}

// attributes sets those of a symbolic link or a special file; what fails is the second pass's to report.
func (c *copier) attributes(e *entry) error {
	_, _ = c.carryNode(e)
	return nil
}

// carryNode is carry for what is not opened for reading.
func (c *run) carryNode(e *entry) (failed []string, err error) {
	src, err := e.src.open(e.name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(src)
	dst, err := e.dst.open(e.name, unix.O_PATH, 0)
	if err != nil {
		return nil, &targetError{err}
	}
	defer unix.Close(dst)
	var st unix.Stat_t
	if err := unix.Fstat(dst, &st); err != nil || st.Mode&unix.S_IFMT != e.kind() {
		return nil, errConflict
	}
	return carry(src, &e.st, dst), nil
}

// copied copies the contents and attributes of a regular file. Nobody sees the copy before it is complete.
func (c *run) copied(ctx context.Context, e *entry, replace bool) (err error) {
	for range attempts {
		if err = c.attempt(ctx, e, replace); !errors.Is(err, errChanged) {
			return err
		}
	}
	return err
}

func (c *run) attempt(ctx context.Context, e *entry, replace bool) error {
	src, err := e.src.openQuietly(e.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if err := unix.Fstat(src, &e.st); err != nil {
		return err
	}
	if e.kind() != unix.S_IFREG {
		return errChanged
	}
	p, err := openPartial(e.dst, e.name, versionOf(&e.st))
	if err != nil {
		return &targetError{err}
	}
	defer p.close()
	resumed := uint64(p.done)
	before := c.meter.now
	n, err := copyData(ctx, p, src, e.st.Size, c.a, func(n int64) { c.meter.add(0, uint64(n)) })
	if err != nil {
		c.meter.now = before
		if errors.Is(err, errChanged) {
			p.discard()
		}
		return err
	}
	var after unix.Stat_t
	if err := unix.Fstat(src, &after); err != nil {
		return err
	}
	if versionOf(&after) != p.of {
		c.meter.now = before
		p.discard()
		return errChanged
	}
	if err := p.complete(src, &e.st, e.name, replace); err != nil {
		return err
	}
	c.sum.Copied, c.sum.Bytes, c.sum.Resumed = c.sum.Copied+1, c.sum.Bytes+n, c.sum.Resumed+resumed
	return nil
}

// complete gives the copy its size, attributes and name.
func (p *partial) complete(src int, from *unix.Stat_t, name string, replace bool) error {
	if err := unix.Ftruncate(p.fd, from.Size); err != nil {
		return &targetError{fmt.Errorf("set the size: %w", err)}
	}
	if err := flush(p.fd); err != nil {
		return &targetError{fmt.Errorf("write: %w", err)}
	}
	carry(src, from, p.fd)
	err := p.finish(name, replace)
	if err == unix.EEXIST {
		p.discard()
		return errConflict
	}
	if err != nil {
		return &targetError{err}
	}
	return nil
}

// flush has the kernel hand over what it has cached of a file, so that errors show: every close of a descriptor does so.
func flush(fd int) error {
	again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(again)
}
