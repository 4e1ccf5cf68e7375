package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/transport"
)

// Meter is told of every request. It is called from many goroutines at once, and must be quick.
type Meter interface {
	// Request tells of one that was answered: its name, how long that took, and the name of the errno, "" for success.
	Request(op string, took time.Duration, errno string)
	// Read and Written tell of bytes of files that were given to the kernel and taken from it.
	Read(n int)
	Written(n int)
}

// measured is a filesystem whose requests are counted. What is not named here is not counted. Without a Meter there is none of it.
type measured struct {
	fuse.RawFileSystem
	batches transport.WriteBacker // the same
	m       Meter
}

// metered puts a meter in front of a filesystem, if there is one.
func metered(f *FS, m Meter) fuse.RawFileSystem {
	if m == nil {
		return f
	}
	return &measured{f, f, m}
}

func (s *measured) done(op string, began time.Time, status fuse.Status) fuse.Status {
	errno := ""
	if status != fuse.OK {
		errno = errnoName(syscall.Errno(status))
	}
	s.m.Request(op, time.Since(began), errno)
	return status
}

func (s *measured) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	began := time.Now()
	return s.done("lookup", began, s.RawFileSystem.Lookup(cancel, in, name, out))
}

func (s *measured) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	began := time.Now()
	return s.done("getattr", began, s.RawFileSystem.GetAttr(cancel, in, out))
}

func (s *measured) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	began := time.Now()
	return s.done("statx", began, s.RawFileSystem.Statx(cancel, in, out))
}

func (s *measured) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	began := time.Now()
	return s.done("setattr", began, s.RawFileSystem.SetAttr(cancel, in, out))
}

func (s *measured) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	began := time.Now()
	return s.done("mknod", began, s.RawFileSystem.Mknod(cancel, in, name, out))
}

func (s *measured) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	began := time.Now()
	return s.done("mkdir", began, s.RawFileSystem.Mkdir(cancel, in, name, out))
}

func (s *measured) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	began := time.Now()
	return s.done("unlink", began, s.RawFileSystem.Unlink(cancel, in, name))
}

func (s *measured) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	began := time.Now()
	return s.done("rmdir", began, s.RawFileSystem.Rmdir(cancel, in, name))
}

func (s *measured) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	began := time.Now()
	return s.done("rename", began, s.RawFileSystem.Rename(cancel, in, oldName, newName))
}

func (s *measured) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	began := time.Now()
	return s.done("link", began, s.RawFileSystem.Link(cancel, in, name, out))
}

func (s *measured) Symlink(cancel <-chan struct{}, in *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	began := time.Now()
	return s.done("symlink", began, s.RawFileSystem.Symlink(cancel, in, to, name, out))
}

func (s *measured) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	began := time.Now()
	out, status := s.RawFileSystem.Readlink(cancel, in)
	return out, s.done("readlink", began, status)
}

func (s *measured) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	began := time.Now()
	n, status := s.RawFileSystem.GetXAttr(cancel, in, name, dest)
	return n, s.done("getxattr", began, status)
}

func (s *measured) ListXAttr(cancel <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	began := time.Now()
	n, status := s.RawFileSystem.ListXAttr(cancel, in, dest)
	return n, s.done("listxattr", began, status)
}

func (s *measured) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	began := time.Now()
	return s.done("setxattr", began, s.RawFileSystem.SetXAttr(cancel, in, name, value))
}

func (s *measured) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	began := time.Now()
	return s.done("removexattr", began, s.RawFileSystem.RemoveXAttr(cancel, in, name))
}

func (s *measured) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	began := time.Now()
	return s.done("create", began, s.RawFileSystem.Create(cancel, in, name, out))
}

func (s *measured) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	began := time.Now()
	return s.done("tmpfile", began, s.RawFileSystem.Tmpfile(cancel, in, out))
}

func (s *measured) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	began := time.Now()
	return s.done("open", began, s.RawFileSystem.Open(cancel, in, out))
}

func (s *measured) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	began := time.Now()
	r, status := s.RawFileSystem.Read(cancel, in, buf)
	if r != nil {
		s.m.Read(r.Size())
	}
	return r, s.done("read", began, status)
}

func (s *measured) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	began := time.Now()
	n, status := s.RawFileSystem.Write(cancel, in, data)
	s.m.Written(int(n))
	return n, s.done("write", began, status)
}

// WriteBack counts a write of a batch as one that took as long as the batch.
func (s *measured) WriteBack(cancel <-chan struct{}, batch []transport.WriteBack) {
	began := time.Now()
	s.batches.WriteBack(cancel, batch)
	for i := range batch {
		s.m.Written(int(batch[i].Written))
		s.done("write", began, batch[i].Status)
	}
}

func (s *measured) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	began := time.Now()
	n, status := s.RawFileSystem.Writev(cancel, in, data)
	if status == fuse.ENOSYS { // Write is called next
		return n, status
	}
	s.m.Written(int(n))
	return n, s.done("write", began, status)
}

func (s *measured) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	began := time.Now()
	n, status := s.RawFileSystem.CopyFileRange(cancel, in)
	return n, s.done("copy_file_range", began, status)
}

func (s *measured) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	began := time.Now()
	return s.done("lseek", began, s.RawFileSystem.Lseek(cancel, in, out))
}

func (s *measured) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	began := time.Now()
	return s.done("ioctl", began, s.RawFileSystem.Ioctl(cancel, in, inbuf, out, outbuf))
}

func (s *measured) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	began := time.Now()
	return s.done("flush", began, s.RawFileSystem.Flush(cancel, in))
}

func (s *measured) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	began := time.Now()
	return s.done("fsync", began, s.RawFileSystem.Fsync(cancel, in))
}

func (s *measured) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	began := time.Now()
	return s.done("fallocate", began, s.RawFileSystem.Fallocate(cancel, in))
}

func (s *measured) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	began := time.Now()
	s.RawFileSystem.Release(cancel, in)
	s.done("release", began, fuse.OK)
}

func (s *measured) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	began := time.Now()
	return s.done("opendir", began, s.RawFileSystem.OpenDir(cancel, in, out))
}

func (s *measured) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	began := time.Now()
	return s.done("readdir", began, s.RawFileSystem.ReadDir(cancel, in, out))
}

func (s *measured) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	began := time.Now()
	return s.done("readdirplus", began, s.RawFileSystem.ReadDirPlus(cancel, in, out))
}

func (s *measured) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	began := time.Now()
	return s.done("fsyncdir", began, s.RawFileSystem.FsyncDir(cancel, in))
}

func (s *measured) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	began := time.Now()
	return s.done("statfs", began, s.RawFileSystem.StatFs(cancel, in, out))
}
