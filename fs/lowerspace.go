package fs

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xfsFreeEOFBlocks is XFS_IOC_FREE_EOFBLOCKS (_IOR('X', 58, struct xfs_fs_eofblocks)), and the flag that makes it wait.
const (
	xfsFreeEOFBlocks = 0x8080583a
	xfsEOFFlagsSync  = 1
)

// xfsEOFBlocks is struct xfs_fs_eofblocks; no field of it narrows the search here.
type xfsEOFBlocks struct {
	version, flags uint32
	_              [15]uint64
}

// trim has the lower filesystem give back what it holds for files to grow, and for files that are being removed. xfs does both; it would by itself only
// when a write fails. Others do not know the request, and xfs grants it to root.
func trim(dir *os.File) {
	arg := xfsEOFBlocks{version: 1, flags: xfsEOFFlagsSync}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, dir.Fd(), xfsFreeEOFBlocks, uintptr(unsafe.Pointer(&arg)))
}
