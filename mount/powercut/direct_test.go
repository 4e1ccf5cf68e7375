package powercut

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/meta"
)

// direct is a target that makes the requests of the kernel itself, without its caches. Files stay open until they are closed one by one.
type direct struct {
	r *running
}

func (d *direct) fs() *fs.FS { return d.r.fs }

func header(node uint64) fuse.InHeader { return fuse.InHeader{NodeId: node} }

// errno is a status as an error.
func errno(s fuse.Status) error {
	if s.Ok() {
		return nil
	}
	return syscall.Errno(s)
}

// at calls fn with the inode at path.
func (d *direct) at(path string, fn func(node uint64) error) error {
	node := uint64(meta.RootIno)
	var known []uint64
	defer func() {
		for _, n := range known {
			d.fs().Forget(n, 1)
		}
	}()
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		var out fuse.EntryOut
		h := header(node)
		if err := errno(d.fs().Lookup(nil, &h, name, &out)); err != nil {
			return err
		}
		if out.NodeId == 0 {
			return syscall.ENOENT
		}
		known = append(known, out.NodeId)
		node = out.NodeId
	}
	return fn(node)
}

// in calls fn with the directory of path and its last name.
func (d *direct) in(path string, fn func(dir uint64, name string) error) error {
	return d.at(parentOf(path), func(dir uint64) error { return fn(dir, path[strings.LastIndexByte(path, '/')+1:]) })
}

// made takes back the lookup that comes with a new entry.
func (d *direct) made(out *fuse.EntryOut, status fuse.Status) error {
	if status.Ok() {
		d.fs().Forget(out.NodeId, 1)
	}
	return errno(status)
}

func (d *direct) do(o op) error {
	if o.kind == opCheckpoint {
		return d.r.content.Checkpoint(context.Background())
	}
	switch o.kind {
	case opReencrypt:
		return d.at(o.path, func(node uint64) error { return d.reencrypt(meta.Ino(node)) })
	case opCreate, opMkdir, opSymlink, opUnlink, opRmdir:
		return d.in(o.path, func(dir uint64, name string) error { return d.name(o, dir, name) })
	case opRename, opLink:
		return d.in(o.to, func(dir uint64, name string) error { return d.secondName(o, dir, name) })
	case opFsyncDir:
		return d.at(o.path, func(node uint64) error {
			in := &fuse.FsyncIn{}
			in.NodeId = node
			return errno(d.fs().FsyncDir(nil, in))
		})
	case opSetxattr:
		return d.at(o.path, func(node uint64) error {
			in := &fuse.SetXAttrIn{InHeader: header(node)}
			return errno(d.fs().SetXAttr(nil, in, xattrName, pattern(20, o.seed)))
		})
	}
	return d.at(o.path, func(node uint64) error { return d.opened(node, func(fh uint64) error { return d.change(o, node, fh) }) })
}

// reencrypt seals a file anew under a fresh key.
func (d *direct) reencrypt(ino meta.Ino) error {
	ctx := context.Background()
	epoch, err := d.r.content.NewEpoch(ctx, ino)
	if err != nil {
		return err
	}
	return d.r.content.Reencrypt(ctx, ino, epoch, nil, func(int) error { return nil })
}

// name makes or removes a name.
func (d *direct) name(o op, dir uint64, name string) error {
	var out fuse.EntryOut
	h := header(dir)
	switch o.kind {
	case opCreate:
		in, out := &fuse.CreateIn{Flags: uint32(unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY), Mode: unix.S_IFREG | 0o644}, &fuse.CreateOut{}
		in.NodeId = dir
		status := d.fs().Create(nil, in, name, out)
		if status.Ok() {
			d.shut(out.NodeId, out.Fh)
		}
		return d.made(&out.EntryOut, status)
	case opMkdir:
		in := &fuse.MkdirIn{Mode: unix.S_IFDIR | 0o755}
		in.NodeId = dir
		return d.made(&out, d.fs().Mkdir(nil, in, name, &out))
	case opSymlink:
		return d.made(&out, d.fs().Symlink(nil, &h, o.to, name, &out))
	case opUnlink:
		return errno(d.fs().Unlink(nil, &h, name))
	default:
		return errno(d.fs().Rmdir(nil, &h, name))
	}
}

// secondName makes the name of a rename or link.
func (d *direct) secondName(o op, newDir uint64, newName string) error {
	if o.kind == opRename {
		return d.in(o.path, func(dir uint64, name string) error {
			in := &fuse.RenameIn{Newdir: newDir}
			in.NodeId = dir
			return errno(d.fs().Rename(nil, in, name, newName))
		})
	}
	return d.at(o.path, func(node uint64) error {
		var out fuse.EntryOut
		in := &fuse.LinkIn{Oldnodeid: node}
		in.NodeId = newDir
		return d.made(&out, d.fs().Link(nil, in, newName, &out))
	})
}

// opened calls fn with a handle of a file.
func (d *direct) opened(node uint64, fn func(fh uint64) error) error {
	var out fuse.OpenOut
	in := &fuse.OpenIn{Flags: uint32(unix.O_RDWR)}
	in.NodeId = node
	if err := errno(d.fs().Open(nil, in, &out)); err != nil {
		return err
	}
	defer d.shut(node, out.Fh)
	return fn(out.Fh)
}

func (d *direct) shut(node, fh uint64) {
	in := &fuse.ReleaseIn{Fh: fh}
	in.NodeId = node
	d.fs().Release(nil, in)
}

// change makes an operation on an open file.
func (d *direct) change(o op, node, fh uint64) error {
	h := header(node)
	switch o.kind {
	case opWrite:
		in := &fuse.WriteIn{InHeader: h, Fh: fh, Offset: uint64(o.off), Size: uint32(o.n)}
		n, status := d.fs().Write(nil, in, o.data())
		if status.Ok() && int64(n) != o.n {
			return fmt.Errorf("%d of %d bytes written", n, o.n)
		}
		return errno(status)
	case opTruncate:
		in := &fuse.SetAttrIn{}
		in.NodeId, in.Valid, in.Size, in.Fh = node, fuse.FATTR_SIZE|fuse.FATTR_FH, uint64(o.off), fh
		return errno(d.fs().SetAttr(nil, in, &fuse.AttrOut{}))
	case opPunch, opZero:
		in := &fuse.FallocateIn{InHeader: h, Fh: fh, Offset: uint64(o.off), Length: uint64(o.n), Mode: o.mode()}
		return errno(d.fs().Fallocate(nil, in))
	case opFsync, opFdata:
		in := &fuse.FsyncIn{InHeader: h, Fh: fh}
		return errno(d.fs().Fsync(nil, in))
	}
	return fmt.Errorf("no such operation: %s", o)
}

func (d *direct) release() error { return nil }

func (d *direct) look() (*observed, error) {
	found := newObserved()
	return found, d.lookIn(found, "", meta.RootIno)
}

func (d *direct) lookIn(found *observed, path string, dir meta.Ino) error {
	entries, err := d.r.store.ReadDirPlus(context.Background(), dir, 0, 10000)
	if err != nil {
		return fmt.Errorf("read directory %q: %w", path, err)
	}
	for _, e := range entries {
		name := join(path, string(e.Name))
		if e.Attr == nil {
			return fmt.Errorf("%s has no inode", name)
		}
		if err := d.lookAt(found, name, e.Attr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if e.Attr.IsDir() {
			if err := d.lookIn(found, name, e.Ino); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *direct) lookAt(found *observed, path string, a *meta.Attr) error {
	e := entry{ino: uint64(a.Ino), links: int(a.Nlink), kind: kindDir}
	switch a.Mode & meta.ModeType {
	case meta.ModeSymlink:
		h := header(uint64(a.Ino))
		target, status := d.fs().Readlink(nil, &h)
		if err := errno(status); err != nil {
			return err
		}
		e.kind, e.target = kindSymlink, string(target)
	case meta.ModeRegular:
		e.kind = kindFile
		data, err := d.read(a)
		if err != nil {
			return err
		}
		found.data[e.ino] = data
	}
	if e.kind != kindSymlink {
		value := make([]byte, 64)
		h := header(uint64(a.Ino))
		n, status := d.fs().GetXAttr(nil, &h, xattrName, value)
		if err := errno(status); err != nil && err != unix.ENODATA {
			return err
		} else if err == nil {
			e.xattr = string(value[:n])
		}
	}
	found.entries[path] = e
	return nil
}

// read returns the content of a file.
func (d *direct) read(a *meta.Attr) ([]byte, error) {
	buf := make([]byte, a.Size+1)
	var data []byte
	err := d.opened(uint64(a.Ino), func(fh uint64) error {
		in := &fuse.ReadIn{Fh: fh, Size: uint32(len(buf))}
		in.NodeId = uint64(a.Ino)
		res, status := d.fs().Read(nil, in, buf)
		if err := errno(status); err != nil {
			return err
		}
		data, status = res.Bytes(nil)
		return errno(status)
	})
	if err == nil && uint64(len(data)) != a.Size {
		err = fmt.Errorf("%d bytes read, size %d", len(data), a.Size)
	}
	return data, err
}
