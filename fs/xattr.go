package fs

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
)

// xattrPrefixes are the namespaces of xattrs that exist here. Who may use which is the kernel's to decide.
var xattrPrefixes = []string{"user.", "trusted.", "security."}

// xattrSELinux is SELinux's label of an inode. Where a get of it reaches us there is no SELinux, which answers itself; see absent.
const xattrSELinux = "security.selinux"

// checkXattr refuses names outside the namespaces: ErrUnsupported.
func checkXattr(name string) error {
	if name == xattrACLAccess || name == xattrACLDefault {
		return nil
	}
	for _, prefix := range xattrPrefixes {
		if strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			return nil
		}
	}
	return fmt.Errorf("xattr namespace: %w", ErrUnsupported)
}

// absent is the answer to a get of an xattr that the inode does not have. Of SELinux's label it is EOPNOTSUPP: ls(1) and others ask each file for it after ENODATA,
// and none of a mount after EOPNOTSUPP.
func absent(name string) fuse.Status {
	if name == xattrSELinux {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return fuse.Status(syscall.ENODATA)
}

// GetXAttr copies the value of an xattr to dest. If dest is too small the status is ERANGE, and the size is returned all the same.
func (fs *FS) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	ctx := request(cancel, in)
	defer ctx.finish()
	if err := checkXattr(name); err != nil {
		return fs.getAttribute(in, name, dest, err)
	}
	if err := fs.maySee(ctx, in, meta.Ino(in.NodeId)); err != nil {
		return 0, fs.status(ctx, "getxattr", in.NodeId, err)
	}
	if lacks, err := fs.meta.LacksXattr(ctx, meta.Ino(in.NodeId), name); err == nil && lacks {
		return 0, absent(name)
	}
	value, err := fs.meta.GetXattr(ctx, meta.Ino(in.NodeId), name)
	if errors.Is(err, meta.ErrNoXattr) {
		return 0, absent(name)
	}
	if err != nil {
		return 0, fs.status(ctx, "getxattr", in.NodeId, stale(err))
	}
	return fit(dest, value)
}

// getAttribute answers for an attribute of the root that is not stored; it is not listed. otherwise is the answer where there is none.
func (fs *FS) getAttribute(in *fuse.InHeader, name string, dest []byte, otherwise error) (uint32, fuse.Status) {
	if fs.attribute != nil && meta.Ino(in.NodeId) == meta.RootIno {
		if value, ok := fs.attribute(requester(in), name); ok {
			if value == nil {
				return 0, fs.failed("getxattr", in.NodeId, meta.ErrNoXattr)
			}
			return fit(dest, value)
		}
	}
	return 0, fs.failed("getxattr", in.NodeId, otherwise)
}

// ListXAttr copies the names of all xattrs to dest, each with a NUL behind it. Names under trusted. are root's to see.
func (fs *FS) ListXAttr(cancel <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	ctx := request(cancel, in)
	defer ctx.finish()
	if err := fs.maySee(ctx, in, meta.Ino(in.NodeId)); err != nil {
		return 0, fs.status(ctx, "listxattr", in.NodeId, err)
	}
	names, err := fs.meta.ListXattr(ctx, meta.Ino(in.NodeId))
	if err != nil {
		return 0, fs.status(ctx, "listxattr", in.NodeId, stale(err))
	}
	var list []byte
	for _, name := range names {
		if in.Uid != 0 && strings.HasPrefix(name, "trusted.") {
			continue
		}
		list = append(append(list, name...), 0)
	}
	return fit(dest, list)
}

func fit(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// SetXAttr sets an xattr. An access ACL changes the permission bits with it, and one that says no more than they do is not kept.
func (fs *FS) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	err := checkXattr(name)
	if err == nil {
		err = fs.may(ctx, &in.InHeader, access.SetAttr, meta.Ino(in.NodeId))
	}
	if err == nil {
		err = fs.space.admit(ctx)
	}
	if err == nil {
		err = fs.setXattr(ctx, in, name, value)
	}
	return fs.status(ctx, "setxattr", in.NodeId, stale(err))
}

func (fs *FS) setXattr(ctx *requestContext, in *fuse.SetXAttrIn, name string, value []byte) error {
	ino, flags := meta.Ino(in.NodeId), meta.XattrFlags(in.Flags)
	switch name {
	case xattrACLAccess:
		return fs.setAccessACL(ctx, ino, value, flags, in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0)
	case xattrACLDefault:
		if _, err := parseACL(value); err != nil {
			return err
		}
	}
	return fs.meta.SetXattr(ctx, ino, name, value, flags)
}

func (fs *FS) setAccessACL(ctx *requestContext, ino meta.Ino, value []byte, flags meta.XattrFlags, killSGID bool) error {
	list, err := parseACL(value)
	if err != nil {
		return err
	}
	bits, all := list.mode()
	_, err = fs.meta.SetXattrWith(ctx, ino, xattrACLAccess, value, flags, func(a *meta.Attr) error {
		a.Mode = a.Mode&^0o777 | bits
		if killSGID {
			a.Mode &^= meta.ModeSetGID
		}
		return nil
	})
	if err != nil || !all {
		return err
	}
	return ignoreNoXattr(fs.meta.RemoveXattr(ctx, ino, xattrACLAccess))
}

// RemoveXAttr removes an xattr.
func (fs *FS) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	ctx := request(cancel, in)
	defer ctx.finish()
	err := checkXattr(name)
	if err == nil {
		err = fs.may(ctx, in, access.SetAttr, meta.Ino(in.NodeId))
	}
	if err == nil {
		err = fs.meta.RemoveXattr(ctx, meta.Ino(in.NodeId), name)
	}
	if name == xattrACLAccess || name == xattrACLDefault { // as ext4: removing an ACL that is not there succeeds
		err = ignoreNoXattr(err)
	}
	return fs.status(ctx, "removexattr", in.NodeId, stale(err))
}

func ignoreNoXattr(err error) error {
	if errors.Is(err, meta.ErrNoXattr) {
		return nil
	}
	return err
}
