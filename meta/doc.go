// Package meta keeps the structure of a volume: inodes, names, extended attributes, block maps, wrapped file keys and zones, as sealed
// rows in an ordered key-value store.
//
// It does not know FUSE, object files, key managers or how zone keys are obtained, and it never sees file contents except as ciphertext.
//
// Nouns:
//
//   - Attr: an inode's row; everything stat(2) shows and the wrapped keys of the file.
//   - dentry: a name in a directory. It is found by a keyed hash of the name (NameTag); the name itself is sealed in the row's value.
//   - primary link: the dentry whose place (zone, parent directory, name tag) the wraps of an inode are bound to. Further hard links have
//     a dentry and a reverse row (inode to place); one of them becomes primary when the primary goes.
//   - orphan: an inode without a name that is still in use (unlinked while open, O_TMPFILE). Its wraps are bound to the orphan place.
//   - MapRow: the map entries of 32 consecutive blocks of a file; an absent entry is a hole.
//   - image: ciphertext of a block that rides in the journal until a checkpoint settles it in its slot.
//   - garbage: something to destroy once a checkpoint includes the transaction that made it garbage.
//   - Zone: a directory with a key of its own; names and wraps below it are sealed under that key.
//
// Rows that hold structure (inode, map, orphan, garbage, link, zone and counter rows) are sealed under the volume's rows key, rows that hold
// names or values that users wrote (dentry, symlink target, xattr) under the names key of their zone. The associated data of every
// sealed row is its full key, so a row opens in its own place only. See docs/FORMAT.md, sections 4, 6, 7 and 11.
//
// Concurrency: a Store is safe for concurrent use. Every namespace operation is one optimistic transaction; callers that serialise
// operations on one directory avoid retries but need not. A Tx belongs to the goroutine that runs the function it was given to.
//
// Lock order: cache shard, inode allocator and the KV store never call into each other with a lock held.
package meta
