package fs

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
)

// attrBits are the bits of SetAttrIn.Valid that ask for something besides the size.
const attrBits = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_CTIME

// SetAttr is chmod, chown, truncate, utimensat, and how the kernel writes back the times of files it caches. The kernel has checked that the caller may.
func (fs *FS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	err := fs.maySetAttr(ctx, in)
	var a *meta.Attr
	if err == nil {
		a, err = fs.setAttr(ctx, in)
	}
	if err != nil {
		return fs.status(ctx, "setattr", in.NodeId, stale(err))
	}
	fs.atimes.overlay(a)
	fillAttr(a, &out.Attr)
	out.SetTimeout(cacheFor)
	return fuse.OK
}

func (fs *FS) setAttr(ctx *requestContext, in *fuse.SetAttrIn) (*meta.Attr, error) {
	ino := meta.Ino(in.NodeId)
	if in.Valid&fuse.FATTR_SIZE != 0 {
		if err := fs.truncate(ctx, in); err != nil {
			return nil, err
		}
		fs.upkeep.shrunk() // or grown: nobody looks unless space is short
	}
	if a := fs.doomed(ctx, in); a != nil {
		applyAttr(a, in, Now())
		return a, nil
	}
	switch {
	case in.Valid&attrBits == 0:
		return fs.meta.Getattr(ctx, ino)
	case in.Valid&fuse.FATTR_ATIME != 0:
		var a *meta.Attr
		return a, fs.atimes.set(ino, func() (err error) {
			a, err = fs.changeAttr(ctx, in)
			return err
		})
	default:
		return fs.changeAttr(ctx, in)
	}
}

// doomed returns the row of a file without a name if all that the request brings is the times that the kernel keeps for files that it caches. It has those
// until it forgets the file, and then, or after a crash, the file goes: nobody would ever read them here. The kernel sends them for each file unlinked.
func (fs *FS) doomed(ctx *requestContext, in *fuse.SetAttrIn) *meta.Attr {
	if in.Valid&^fuse.FATTR_FH != fuse.FATTR_MTIME|fuse.FATTR_CTIME {
		return nil
	}
	a, err := fs.meta.Getattr(ctx, meta.Ino(in.NodeId))
	if err != nil || !a.IsRegular() || !a.Flags.Orphan() || a.Flags&meta.FlagLinkable != 0 {
		return nil
	}
	return a
}

// truncate sets the size through the handle that came with the request, or through one of its own.
func (fs *FS) truncate(ctx *requestContext, in *fuse.SetAttrIn) error {
	if fh, ok := in.GetFh(); ok {
		if h, err := fs.handles.file(fh); err == nil {
			return truncateTo(ctx, h.file, in)
		}
	}
	ino := meta.Ino(in.NodeId)
	if _, err := fs.nodes.enter(ctx, ino, false); err != nil {
		return err
	}
	defer func() {
		if fs.nodes.closed(ino, false) {
			fs.upkeep.release(ino)
		}
	}()
	file, err := fs.content.Open(ctx, ino)
	if err != nil {
		return err
	}
	return errors.Join(truncateTo(ctx, file, in), file.Close())
}

// truncateTo sets the size of file. Where it is this size already and the kernel, which owns the times of files that it caches, sends none, they stay: ours
// would be others, and be seen when the kernel has forgotten its own.
func truncateTo(ctx *requestContext, file *content.File, in *fuse.SetAttrIn) error {
	kill := in.Valid&fuse.FATTR_KILL_SUIDGID != 0
	if file.Size() == in.Size && in.Valid&fuse.FATTR_MTIME == 0 && !kill {
		return nil
	}
	return file.Truncate(ctx, in.Size, content.WriteOpts{KillSUID: kill})
}

// changeAttr does everything but the size, in one transaction. A chmod of an inode with an access ACL changes the ACL with it.
func (fs *FS) changeAttr(ctx *requestContext, in *fuse.SetAttrIn) (*meta.Attr, error) {
	ino, now := meta.Ino(in.NodeId), Now()
	var result *meta.Attr
	apply := func(a *meta.Attr) error {
		applyAttr(a, in, now)
		return nil
	}
	if in.Valid&fuse.FATTR_MODE != 0 {
		value, err := fs.chmodACL(ctx, ino, in.Mode)
		if err != nil {
			return nil, err
		}
		if value != nil {
			return fs.meta.SetXattrWith(ctx, ino, xattrACLAccess, value, 0, apply)
		}
	}
	_, err := fs.meta.Update(ctx, func(tx *meta.Tx) error {
		a, err := tx.Attr(ino)
		if err != nil {
			return err
		}
		applyAttr(a, in, now)
		if err := tx.PutAttr(a); err != nil {
			return err
		}
		result = a
		return nil
	})
	return result, err
}

// applyAttr changes a as the request says. ctime is the kernel's where it sends one, which it does for files that it caches; otherwise now.
func applyAttr(a *meta.Attr, in *fuse.SetAttrIn, now meta.Time) {
	if in.Valid&fuse.FATTR_MODE != 0 {
		a.Mode = a.Type() | in.Mode&0o7777
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		a.UID = in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		a.GID = in.Gid
	}
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 && in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		a.Mode = killSUID(a.Mode)
	}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		a.Atime = requested(in.Valid&fuse.FATTR_ATIME_NOW != 0, now, in.Atime, in.Atimensec)
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		a.Mtime = requested(in.Valid&fuse.FATTR_MTIME_NOW != 0, now, in.Mtime, in.Mtimensec)
	}
	a.Ctime = now
	if in.Valid&fuse.FATTR_CTIME != 0 {
		a.Ctime = meta.Time{Sec: int64(in.Ctime), Nsec: in.Ctimensec}
	}
}

func requested(isNow bool, now meta.Time, sec uint64, nsec uint32) meta.Time {
	if isNow {
		return now
	}
	return meta.Time{Sec: int64(sec), Nsec: nsec}
}

// killSUID clears set-user-id, and set-group-id where it means "run as the group" (the group may execute).
func killSUID(mode uint32) uint32 {
	if mode&meta.ModeType == meta.ModeDir {
		return mode
	}
	if mode&0o010 != 0 {
		mode &^= meta.ModeSetGID
	}
	return mode &^ meta.ModeSetUID
}

// chmodACL returns the access ACL of the inode as chmod to mode makes it, nil if the inode has none.
func (fs *FS) chmodACL(ctx *requestContext, ino meta.Ino, mode uint32) ([]byte, error) {
	a, err := fs.meta.Getattr(ctx, ino)
	if err != nil || a.Flags&meta.FlagACLAccess == 0 {
		return nil, err
	}
	value, err := fs.meta.GetXattr(ctx, ino, xattrACLAccess)
	if errors.Is(err, meta.ErrNoXattr) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := parseACL(value)
	if err != nil {
		return nil, err
	}
	list.chmod(mode)
	return list.encode(), nil
}
