package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// FS implements the raw FUSE interface. What it leaves to the default, which answers ENOSYS so that the kernel does not ask again:
//
//   - GetLk, SetLk, SetLkw: not negotiated. One mount per volume, so the kernel's own locks are right, cost nothing, and go with their process.
//   - Access: the kernel checks permissions itself (default_permissions) and does not ask.
//   - Writev: splits of a write come with another transport only; the server joins them.
//   - SetDebug: requests would be logged, names and contents among them.
var _ fuse.RawFileSystem = (*FS)(nil)
