package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// newNode describes an inode that the caller of a request makes. In the transaction it takes what the directory passes on: if that has a default ACL,
// the ACL instead of the umask; else the umask counts. Set-group-id is package meta's, and the kernel has cleared it where the caller may not pass it on.
func newNode(caller *fuse.InHeader, mode, umask uint32) meta.NewNode {
	return meta.NewNode{
		Mode: mode, UID: caller.Uid, GID: caller.Gid,
		Inherit: func(tx *meta.Tx, dir *meta.Attr, n *meta.NewNode) error { return inherit(tx, dir, n, umask) },
	}
}

func inherit(tx *meta.Tx, dir *meta.Attr, n *meta.NewNode, umask uint32) error {
	if dir.Flags&meta.FlagACLDefault == 0 {
		n.Mode &^= umask & 0o777
		return nil
	}
	value, err := tx.Xattr(dir.Ino, xattrACLDefault)
	if errors.Is(err, meta.ErrNoXattr) {
		n.Mode &^= umask & 0o777
		return nil
	}
	if err != nil {
		return err
	}
	a, err := parseACL(value)
	if err != nil {
		return err
	}
	n.Xattrs = map[string][]byte{}
	n.Mode = a.inherit(n.Mode)
	if _, all := a.mode(); !all {
		n.Xattrs[xattrACLAccess] = a.encode()
	}
	if n.Mode&meta.ModeType == meta.ModeDir {
		n.Xattrs[xattrACLDefault] = append([]byte(nil), value...)
	}
	return nil
}

// make creates a named inode and replies with it.
func (fs *FS) make(cancel <-chan struct{}, op string, in *fuse.InHeader, name string, n meta.NewNode, out *fuse.EntryOut) fuse.Status {
	ctx := request(cancel, in)
	defer ctx.finish()
	err := fs.mayName(ctx, in, access.Create, meta.Ino(in.NodeId), name)
	if err == nil {
		err = fs.space.admit(ctx)
	}
	if err != nil {
		return fs.status(ctx, op, in.NodeId, err)
	}
	a, err := fs.meta.Create(inNameOf(ctx, in), meta.Ino(in.NodeId), []byte(name), n)
	if err != nil {
		return fs.status(ctx, op, in.NodeId, err)
	}
	fs.reply(a, out)
	return fuse.OK
}

// Mknod makes a file of any type but directories and symbolic links. Device nodes are kept as metadata only.
func (fs *FS) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	n := newNode(&in.InHeader, in.Mode, in.Umask)
	if t := in.Mode & meta.ModeType; t == meta.ModeChar || t == meta.ModeBlock {
		n.Rdev = in.Rdev
	} else if t == 0 {
		n.Mode |= meta.ModeRegular
	}
	return fs.make(cancel, "mknod", &in.InHeader, name, n, out)
}

// Mkdir makes a directory.
func (fs *FS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	n := newNode(&in.InHeader, in.Mode&^meta.ModeType|meta.ModeDir, in.Umask)
	return fs.make(cancel, "mkdir", &in.InHeader, name, n, out)
}

// Symlink makes a symbolic link. It has no permissions of its own, and so inherits none.
func (fs *FS) Symlink(cancel <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	n := meta.NewNode{Mode: meta.ModeSymlink | 0o777, UID: in.Uid, GID: in.Gid, Target: []byte(target)}
	return fs.make(cancel, "symlink", in, name, n, out)
}

// Create makes a regular file and opens it. If the name turns up meanwhile and the caller does not insist on a new one, it opens that.
func (fs *FS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	parent := meta.Ino(in.NodeId)
	err := fs.mayName(ctx, &in.InHeader, access.Create, parent, name)
	if err == nil {
		err = fs.space.admit(ctx)
	}
	if err != nil {
		return fs.status(ctx, "create", in.NodeId, err)
	}
	a, err := fs.meta.Create(inNameOf(ctx, &in.InHeader), parent, []byte(name), newNode(&in.InHeader, in.Mode&^meta.ModeType|meta.ModeRegular, in.Umask))
	o := opening{caller: &in.InHeader, flags: in.Flags &^ syscall.O_TRUNC, fuseFlags: in.OpenFlags, created: true} // a new file is empty
	if errors.Is(err, meta.ErrExist) && in.Flags&syscall.O_EXCL == 0 {
		o.flags, o.created = in.Flags, false
		a, err = fs.meta.Lookup(ctx, parent, []byte(name))
		if err == nil && !a.IsRegular() {
			err = meta.ErrExist
		}
	}
	if err == nil {
		o.ino = a.Ino
		err = fs.opened(ctx, o, &out.OpenOut)
	}
	if err != nil {
		return fs.status(ctx, "create", in.NodeId, err)
	}
	fs.reply(a, &out.EntryOut)
	return fuse.OK
}

// Tmpfile makes and opens a regular file without a name. It is an orphan until it is linked.
func (fs *FS) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	err := fs.may(ctx, &in.InHeader, access.Create, meta.Ino(in.NodeId))
	if err == nil {
		err = fs.space.admit(ctx)
	}
	if err != nil {
		return fs.status(ctx, "tmpfile", in.NodeId, err)
	}
	n := newNode(&in.InHeader, in.Mode&^meta.ModeType|meta.ModeRegular, in.Umask)
	a, err := fs.meta.Tmpfile(inNameOf(ctx, &in.InHeader), meta.Ino(in.NodeId), n)
	if err != nil {
		return fs.status(ctx, "tmpfile", in.NodeId, err)
	}
	fs.reply(a, &out.EntryOut)
	fs.nodes.orphaned(a.Ino) // in use: it was looked up just now
	o := opening{caller: &in.InHeader, ino: a.Ino, flags: in.Flags &^ syscall.O_TRUNC, created: true}
	if err := fs.opened(ctx, o, &out.OpenOut); err != nil {
		fs.Forget(uint64(a.Ino), 1)
		return fs.status(ctx, "tmpfile", in.NodeId, err)
	}
	return fuse.OK
}
