package mount

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/jobs"
)

// remover removes files through the mount, as any program of the user who mounted does: permissions, policies and audit are as ever, and the kernel forgets what goes. What there is it learns from
// the metadata, so that it keeps nothing in the mount open but for a moment.
type remover struct {
	d       *daemon
	helper  *helper
	before  func(files []meta.Ino) error // is told of files whose names are about to be removed
	removed func() error                 // of each file that has lost its last name
}

// removeBatch is how many entries are read at a time.
const removeBatch = 256

// all removes what a is, and all below. It is found by its place: what is moved away meanwhile is removed there.
func (r *remover) all(ctx context.Context, a *meta.Attr) error {
	if a.IsDir() {
		if err := r.below(ctx, a.Ino); err != nil {
			return err
		}
	}
	name, err := r.d.volume.meta.Path(ctx, a.Ino)
	if err != nil {
		return err
	}
	now, err := r.d.volume.meta.Getattr(ctx, a.Ino)
	if err != nil {
		return err
	}
	i := strings.LastIndexByte(string(name), '/')
	return r.entries(ctx, now.Parent, []meta.DirentPlus{{Dirent: meta.Dirent{Name: name[i+1:]}, Attr: now}})
}

// below empties a directory.
func (r *remover) below(ctx context.Context, dir meta.Ino) error {
	for {
		list, err := r.d.volume.meta.ReadDirPlus(ctx, dir, 0, removeBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, e := range list {
			if e.Attr.IsDir() {
				if err := r.below(ctx, e.Attr.Ino); err != nil {
					return err
				}
			}
		}
		if err := r.entries(ctx, dir, list); err != nil {
			return err
		}
	}
}

// entries removes names of a directory. An unmount waits for it.
func (r *remover) entries(ctx context.Context, dir meta.Ino, list []meta.DirentPlus) error {
	var files []meta.Ino
	for _, e := range list {
		if e.Attr.IsRegular() {
			files = append(files, e.Attr.Ino)
		}
	}
	if err := r.before(files); err != nil {
		return err
	}
	q := &removeRequest{MountPoint: r.d.server.MountPoint(), Device: r.d.server.Device(), Inode: uint64(dir)}
	var err error
	if q.Path, err = r.d.volume.meta.Path(ctx, dir); err != nil {
		return err
	}
	for _, e := range list {
		q.Names, q.Dirs = append(q.Names, e.Name), append(q.Dirs, e.Attr.IsDir())
	}
	reply, err := r.ask(q)
	if err != nil {
		return err
	}
	for i, e := range list {
		if err := r.outcome(ctx, e.Attr, reply.Errors[i]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ask has a request done; an unmount waits for it.
func (r *remover) ask(q *removeRequest) (removeReply, error) {
	r.d.inside.RLock()
	defer r.d.inside.RUnlock()
	return r.helper.ask(q)
}

// outcome says what came of one name.
func (r *remover) outcome(ctx context.Context, a *meta.Attr, errno syscall.Errno) error {
	switch errno {
	case 0:
		if r.nameless(ctx, a) {
			return r.removed()
		}
		return nil
	case unix.ENOENT, unix.ENOTEMPTY: // gone meanwhile; filled again: the next round
		return nil
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return fmt.Errorf("%w: remove %s: %w", jobs.ErrDenied, r.d.volume.pathOr(ctx, a.Ino), errno)
	}
	return fmt.Errorf("remove %s: %w", r.d.volume.pathOr(ctx, a.Ino), errno)
}

// nameless tells whether a file has no name any more.
func (r *remover) nameless(ctx context.Context, a *meta.Attr) bool {
	if !a.IsRegular() {
		return false
	}
	now, err := r.d.volume.meta.Getattr(ctx, a.Ino)
	return err != nil || now.Nlink == 0
}
