// Package fs is the filesystem that the kernel sees: every FUSE request is turned into operations on metadata (package meta) and content
// (package fs/content), and every error into an errno. It also mounts and unmounts.
//
// It does not know how requests arrive (go-fuse's server or another transport under its raw interface), how rows and blocks are stored or
// encrypted, where keys come from, or who may use them. It never resolves a path: the kernel does, in the caller's namespace.
//
// Nouns:
//
//   - node: an inode that the kernel knows. It counts lookups and open handles; an orphan (no name left) is released with the last of them.
//   - handle: one open file or directory. All file handles of an inode share one content.File.
//   - upkeep: one goroutine for what must not make a request wait: releasing orphans, access times, notifications to the kernel.
//
// The node id of FUSE is the inode number. Numbers are never reused, so the generation is always 1 and a dead number is ESTALE for ever.
//
// The kernel caches entries, attributes, symlinks, directories and data for as long as it likes, because all changes go through this mount. It
// checks permissions itself (default_permissions), with the attributes, ACLs and group lists that only it has; what FUSE leaves to the
// filesystem is done here: umask and ACL inheritance, set-group-id inheritance, clearing set-user-id on write, chown and truncate.
//
// Concurrency: every method may be called from many goroutines. Lock order: a node table shard, then nothing; the handle table, then nothing; the
// upkeep queue, then nothing. No lock is held while metadata, content or the kernel is called.
//
// Diagnostics name inodes and operations, never names or contents.
package fs
