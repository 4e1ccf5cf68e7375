package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// errnoCases has every sentinel that can reach a request.
var errnoCases = []struct {
	err  error
	want syscall.Errno
}{
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.EIO},

	{meta.ErrNotFound, syscall.ENOENT},
	{meta.ErrExist, syscall.EEXIST},
	{meta.ErrNotDir, syscall.ENOTDIR},
	{meta.ErrIsDir, syscall.EISDIR},
	{meta.ErrNotEmpty, syscall.ENOTEMPTY},
	{meta.ErrNameTooLong, syscall.ENAMETOOLONG},
	{meta.ErrBadName, syscall.EINVAL},
	{meta.ErrInvalid, syscall.EINVAL},
	{meta.ErrCrossZone, syscall.EXDEV},
	{meta.ErrLoop, syscall.EINVAL},
	{meta.ErrTooManyLinks, syscall.EMLINK},
	{meta.ErrNoXattr, syscall.ENODATA},
	{meta.ErrXattrTooBig, syscall.E2BIG},
	{meta.ErrXattrList, syscall.ENOSPC},
	{meta.ErrStale, syscall.ESTALE},
	{meta.ErrCorrupt, syscall.EIO},
	{meta.ErrAuth, syscall.EIO},
	{meta.ErrKeyUnavailable, syscall.ENOKEY},
	{meta.ErrKeyRevoked, syscall.EKEYREVOKED},
	{meta.ErrReadOnlyTx, syscall.EROFS},
	{meta.ErrNoSpace, syscall.ENOSPC},
	{meta.ErrReadOnly, syscall.EROFS},

	{kv.ErrConflict, syscall.EIO},
	{kv.ErrTooBig, syscall.EIO},
	{kv.ErrClosed, syscall.EIO},
	{kv.ErrReadOnly, syscall.EROFS},
	{kv.ErrNoSpace, syscall.ENOSPC},
	{kv.ErrCorrupt, syscall.EIO},
	{kv.ErrFailed, syscall.EIO},

	{content.ErrDamaged, syscall.EIO},
	{content.ErrTooLarge, syscall.EFBIG},
	{content.ErrNoData, syscall.ENXIO},
	{content.ErrMode, syscall.EOPNOTSUPP},
	{content.ErrNotRegular, syscall.EINVAL},
	{content.ErrClosed, syscall.EIO},

	{object.ErrMissing, syscall.EIO},
	{object.ErrTruncated, syscall.EIO},
	{object.ErrHostile, syscall.EIO},
	{object.ErrFailed, syscall.EIO},
	{object.ErrClosed, syscall.EIO},

	{blockcrypt.ErrAuth, syscall.EIO},
	{blockcrypt.ErrCommitment, syscall.EIO},
	{blockcrypt.ErrFormat, syscall.EIO},

	{keymgr.ErrKeyUnavailable, syscall.ENOKEY},
	{keymgr.ErrDependencyTimeout, syscall.ENOKEY},
	{keymgr.ErrLocked, syscall.ENOKEY},
	{keymgr.ErrRecord, syscall.ENOKEY},
	{keymgr.ErrDisabled, syscall.EKEYREVOKED},
	{keymgr.ErrInvalidState, syscall.EKEYREVOKED},
	{keymgr.ErrAccessDenied, syscall.EACCES},
	{keymgr.ErrNotAuthorized, syscall.EACCES},
	{keymgr.ErrNotFound, syscall.EIO},
	{keymgr.ErrInvalidCiphertext, syscall.EIO},
	{keymgr.ErrIncorrectKey, syscall.EIO},
	{keymgr.ErrInternal, syscall.EIO},
	{keymgr.ErrLimit, syscall.EIO},

	{ErrTooBig, syscall.EFBIG},
	{ErrHandle, syscall.EBADF},
	{ErrUnsupported, syscall.EOPNOTSUPP},
	{ErrReserve, syscall.ENOSPC},

	// Errors of the lower filesystem: only those mean the same up here.
	{syscall.ENOSPC, syscall.ENOSPC},
	{syscall.EDQUOT, syscall.ENOSPC},
	{syscall.EROFS, syscall.EROFS},
	{syscall.EFBIG, syscall.EFBIG},
	{syscall.ENOMEM, syscall.ENOMEM},
	{syscall.EIO, syscall.EIO},
	{syscall.ENOENT, syscall.EIO},
	{syscall.EACCES, syscall.EIO},
	{syscall.EPERM, syscall.EIO},
	{syscall.ENOSYS, syscall.EIO},
	{syscall.EMFILE, syscall.EIO},
	{errors.New("anything else"), syscall.EIO},
}

func TestErrno(t *testing.T) {
	if got := Errno(nil); got != 0 {
		t.Errorf("nil: %v", got)
	}
	for _, c := range errnoCases {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, errnoName(got), errnoName(c.want))
		}
		if got := Errno(fmt.Errorf("read block 7 of inode 42: %w", c.err)); got != c.want {
			t.Errorf("wrapped %v: %v, want %v", c.err, errnoName(got), errnoName(c.want))
		}
	}
}

func TestErrnoPrefersTheCause(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{fmt.Errorf("%w: %w", meta.ErrNotFound, meta.ErrAuth), syscall.EIO}, // a row that does not open is not "no such file"
		{fmt.Errorf("%w: %w", content.ErrDamaged, meta.ErrKeyRevoked), syscall.EKEYREVOKED},
		{fmt.Errorf("%w: %w", meta.ErrKeyUnavailable, context.Canceled), syscall.EINTR},
		{fmt.Errorf("%w: %w", meta.ErrKeyRevoked, keymgr.ErrKeyUnavailable), syscall.EKEYREVOKED},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, errnoName(got), errnoName(c.want))
		}
	}
}

func TestStale(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{fmt.Errorf("inode 7: %w", meta.ErrNotFound), syscall.ESTALE},
		{meta.ErrNoXattr, syscall.ENODATA},
		{meta.ErrAuth, syscall.EIO},
	} {
		if got := Errno(stale(c.err)); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, errnoName(got), errnoName(c.want))
		}
	}
}

func TestStatusLogsCausesInodesAndNoStorm(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	fs := &FS{log: log, damage: newDamageLog(nil, nil, log)}
	defer fs.damage.close()
	if got := fs.failed("read", 42, fmt.Errorf("read block 7: %w", content.ErrDamaged)); got != fuse.EIO {
		t.Errorf("status %v", got)
	}
	line := out.String()
	for _, want := range []string{"op=read", "inode=42", "errno=EIO", "read block 7"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %q", line, want)
		}
	}
	out.Reset()
	fs.failed("lookup", 42, meta.ErrNotFound)
	if out.Len() != 0 {
		t.Errorf("an everyday refusal was logged: %s", out.String())
	}
	for range 10 * faultsPerWindow {
		fs.failed("read", 42, content.ErrDamaged)
	}
	if lines := strings.Count(out.String(), "\n"); lines > faultsPerWindow {
		t.Errorf("%d lines for one fault", lines)
	}
}
