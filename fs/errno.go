package fs

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// errnoRule says that an error matching one of the sentinels is reported as errno.
type errnoRule struct {
	errno syscall.Errno
	is    []error
}

// errnoRules is searched from the top. Causes come before consequences: an error may match several (a read that failed because the key is gone
// is also a read that failed). Whatever matches nothing is EIO: damage, tampering, failed syncs, bugs. A wrong key and a bad tag are the same
// to the caller, on purpose. ENOSYS never appears: the kernel would stop asking.
var errnoRules = []errnoRule{
	{syscall.EINTR, []error{context.Canceled}},
	{syscall.EKEYREVOKED, []error{meta.ErrKeyRevoked, keymgr.ErrDisabled, keymgr.ErrInvalidState}},
	{syscall.ENOKEY, []error{meta.ErrKeyUnavailable, keymgr.ErrKeyUnavailable}},
	{syscall.EACCES, []error{keymgr.ErrAccessDenied, keymgr.ErrNotAuthorized}},
	{syscall.EIO, []error{meta.ErrAuth, meta.ErrCorrupt, content.ErrDamaged}},
	{syscall.ENOENT, []error{meta.ErrNotFound}},
	{syscall.EEXIST, []error{meta.ErrExist}},
	{syscall.ENOTDIR, []error{meta.ErrNotDir}},
	{syscall.EISDIR, []error{meta.ErrIsDir}},
	{syscall.ENOTEMPTY, []error{meta.ErrNotEmpty}},
	{syscall.ENAMETOOLONG, []error{meta.ErrNameTooLong}},
	{syscall.EINVAL, []error{meta.ErrInvalid, meta.ErrBadName, meta.ErrLoop, content.ErrNotRegular}},
	{syscall.EXDEV, []error{meta.ErrCrossZone}},
	{syscall.EMLINK, []error{meta.ErrTooManyLinks}},
	{syscall.ENODATA, []error{meta.ErrNoXattr}},
	{syscall.E2BIG, []error{meta.ErrXattrTooBig}},
	{syscall.ENOSPC, []error{meta.ErrNoSpace, meta.ErrXattrList, ErrReserve, syscall.ENOSPC, syscall.EDQUOT}},
	{syscall.EROFS, []error{meta.ErrReadOnly, meta.ErrReadOnlyTx, syscall.EROFS}},
	{syscall.EFBIG, []error{ErrTooBig, content.ErrTooLarge, syscall.EFBIG}},
	{syscall.ESTALE, []error{meta.ErrStale}},
	{syscall.EBADF, []error{ErrHandle}},
	{syscall.EOPNOTSUPP, []error{ErrUnsupported, content.ErrMode}},
	{syscall.ENXIO, []error{content.ErrNoData}},
	{syscall.ENOMEM, []error{syscall.ENOMEM}},
}

// Errno returns the errno that a program sees for err; 0 for nil, EIO for what is not in the table. It is the only place where errors become errnos.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	for _, rule := range errnoRules {
		for _, sentinel := range rule.is {
			if errors.Is(err, sentinel) {
				return rule.errno
			}
		}
	}
	return syscall.EIO
}

// stale turns "not found" into ESTALE for requests that name an inode and nothing else: the kernel asks about a number that is dead.
func stale(err error) error {
	if errors.Is(err, meta.ErrNotFound) && !errors.Is(err, meta.ErrAuth) {
		return errors.Join(meta.ErrStale, errDetail{err})
	}
	return err
}

// errDetail keeps the text of an error and hides what it matches.
type errDetail struct{ error }

// status reports err to the kernel as the outcome of a request, op on inode ino, and has a refusal by keys noted for who asked.
func (fs *FS) status(ctx *requestContext, op string, ino uint64, err error) fuse.Status {
	if err != nil && fs.access != nil && aboutKeys(err) {
		fs.access.Refused(ctx.by, op, meta.Ino(ino), err)
	}
	return fs.failed(op, ino, err)
}

// aboutKeys says whether an error is that keys may not be had or used.
func aboutKeys(err error) bool {
	errno := Errno(err)
	return errno == syscall.ENOKEY || errno == syscall.EKEYREVOKED || errno == syscall.EACCES
}

// failed is status for what nobody asked for: it gives an error its errno, and logs the cause if it is one that an administrator has to know.
func (fs *FS) failed(op string, ino uint64, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	errno := Errno(err)
	if errno == syscall.EIO {
		fs.damage.note(op, ino, err)
	}
	switch errno {
	case syscall.EIO, syscall.ENOKEY, syscall.EKEYREVOKED, syscall.EKEYEXPIRED, syscall.ENOSPC, syscall.ENOMEM:
		if fs.faults.admit(errno) {
			fs.log.LogAttrs(context.Background(), slog.LevelError, "request failed", slog.String("op", op), slog.Uint64("inode", ino),
				slog.String("errno", errnoName(errno)), slog.Any("cause", err))
		}
	default:
		if fs.log.Enabled(context.Background(), slog.LevelDebug) {
			fs.log.LogAttrs(context.Background(), slog.LevelDebug, "request refused", slog.String("op", op), slog.Uint64("inode", ino),
				slog.String("errno", errnoName(errno)), slog.Any("cause", err))
		}
	}
	return fuse.Status(errno)
}
