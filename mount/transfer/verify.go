package transfer

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// verifier is the second pass: it compares all of the copy with the original.
type verifier struct{ *run }

// twin is the copy of a file with several names, which is compared once.
type twin struct {
	at    inode
	names uint64 // that were seen of it in the source
}

var errMissing = errors.New("it came meanwhile, or its copy has gone; run it again")

func (v *verifier) enter(_ context.Context, e *entry) (*dir, bool, error) {
	d, err := e.dst.dir(e.name)
	if err == unix.ENOENT {
		return nil, false, v.tell(e.full(), Changed, errMissing.Error())
	}
	if err != nil {
		return nil, false, v.issue(e.full(), Unwritable, err)
	}
	return d, true, nil
}

func (v *verifier) begin(context.Context, *place, []string) error { return nil }
func (v *verifier) gone(path string) error                        { return v.tell(path, Changed, "it has gone meanwhile") }

func (v *verifier) leave(_ context.Context, p *place) error {
	if p.path == "" && !v.cfg.RootAttributes {
		return nil
	}
	return v.attributes(p.path, carry(p.src.fd, &p.st, p.dst.fd))
}

// attributes reports what of a file was not carried over.
func (v *verifier) attributes(path string, failed []string) error {
	for _, what := range failed {
		v.flawed[path] = true
		if err := v.tell(path, Attribute, what); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) other(ctx context.Context, e *entry) error {
	if e.kind() == unix.S_IFREG {
		return v.file(ctx, e)
	}
	if ok, err := sameNode(e); err != nil || !ok {
		return v.nodeIssue(e, err)
	}
	failed, err := v.carryNode(e)
	if err != nil {
		return v.nodeIssue(e, err)
	}
	v.sum.Verified++
	return v.attributes(e.full(), failed)
}

func (v *verifier) nodeIssue(e *entry, err error) error {
	if errors.Is(err, unix.ENOENT) {
		err = errMissing
	}
	if err == nil || errors.Is(err, errMissing) || errors.Is(err, errConflict) {
		return v.tell(e.full(), Changed, errMissing.Error())
	}
	return v.fileIssue(e, err)
}

// sameNode tells whether a symbolic link or a special file has its like in the target.
func sameNode(e *entry) (bool, error) {
	there, err := e.dst.stat(e.name)
	if err != nil {
		return false, err
	}
	if there.Mode&unix.S_IFMT != e.kind() {
		return false, nil
	}
	if e.kind() != unix.S_IFLNK {
		return there.Rdev == e.st.Rdev, nil
	}
	a, err := readlink(e.src, e.name)
	if err != nil {
		return false, err
	}
	b, err := readlink(e.dst, e.name)
	return a == b, err
}

// file compares a regular file. What differs though it has the original's modification time is copied again, once: a power cut may have taken it.
func (v *verifier) file(ctx context.Context, e *entry) error {
	several := e.st.Nlink > 1
	if several {
		if t := v.twins[identity(&e.st)]; t != nil {
			return v.name(e, t)
		}
	}
	before := v.meter.now
	failed, err := v.compare(ctx, e)
	if errors.Is(err, errDiffers) {
		v.sum.Repaired++
		if err = v.copied(ctx, e, true); err == nil {
			failed, err = v.compare(ctx, e)
		}
	}
	v.meter.now = before
	v.meter.add(1, uint64(e.st.Size))
	switch {
	case errors.Is(err, errDiffers):
		return v.tell(e.full(), Differs, err.Error())
	case errors.Is(err, unix.ENOENT):
		return v.tell(e.full(), Changed, errMissing.Error())
	case err != nil:
		return v.fileIssue(e, err)
	}
	v.sum.Verified++
	if several {
		st, err := e.dst.stat(e.name)
		if err != nil {
			return v.fileIssue(e, &targetError{err})
		}
		v.twins[identity(&e.st)] = &twin{at: identity(&st), names: 1}
	}
	return v.attributes(e.full(), failed)
}

// name checks that a further name leads to the same copy.
func (v *verifier) name(e *entry, t *twin) error {
	st, err := e.dst.stat(e.name)
	if err != nil || identity(&st) != t.at {
		return v.tell(e.full(), Differs, "it is no hard link of its first name in the target; run it again")
	}
	t.names++
	return nil
}

var errDiffers = errors.New("the copy has other contents")

// compare compares contents and attributes of two files. errDiffers; errChanged if the original is not what was copied.
func (v *run) compare(ctx context.Context, e *entry) (failed []string, err error) {
	src, err := e.src.openQuietly(e.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer unix.Close(src)
	dst, err := e.dst.openQuietly(e.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, &targetError{err}
	}
	defer unix.Close(dst)
	var there unix.Stat_t
	if err := errors.Join(unix.Fstat(src, &e.st), unix.Fstat(dst, &there)); err != nil {
		return nil, err
	}
	switch {
	case e.kind() != unix.S_IFREG || there.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errSince
	case !sameTime(&there, &e.st):
		return nil, errSince
	case there.Size != e.st.Size:
		return nil, errDiffers
	}
	if v.cfg.SyncEach {
		if err := unix.Fsync(dst); err != nil {
			return nil, &targetError{err}
		}
	}
	same, err := equal(ctx, src, dst, e.st.Size, v.a, v.b, func(n int64) { v.meter.add(0, uint64(n)) })
	if err != nil {
		return nil, err
	}
	var after unix.Stat_t
	if err := unix.Fstat(src, &after); err != nil {
		return nil, err
	}
	switch {
	case versionOf(&after) != versionOf(&e.st):
		return nil, errSince
	case !same:
		return nil, errDiffers
	}
	return carry(src, &e.st, dst), nil
}

// errSince is errChanged of a file that was copied.
var errSince = &sinceError{}

type sinceError struct{}

func (*sinceError) Error() string {
	return "the original or its copy changed since it was copied; run it again with --update"
}
func (*sinceError) Is(target error) bool { return target == errChanged }

// sameTime tells whether the copy has the original's modification time, perhaps cut to what its filesystem can keep.
func sameTime(have, want *unix.Stat_t) bool {
	if have.Mtim == want.Mtim {
		return true
	}
	for _, unit := range []int64{100, 1000, 1_000_000, 1_000_000_000} {
		if have.Mtim.Sec == want.Mtim.Sec && have.Mtim.Nsec == want.Mtim.Nsec/unit*unit {
			return true
		}
	}
	return have.Mtim.Nsec == 0 && have.Mtim.Sec == want.Mtim.Sec/2*2
}
