package meta

import (
	"context"
	"errors"
	"iter"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

var errNotYet = errors.New("meta: not yet implemented")

// Create makes a new inode of any type under a name that must not exist: regular files with a fresh DEK wrapped for their place and
// LayoutInline, directories, symlinks, fifos, sockets and device nodes alike. In a setgid directory it takes over the group, a
// directory the bit too. Errors: ErrExist, ErrNotFound (parent is gone), ErrNotDir, ErrNameTooLong, ErrBadName, ErrInvalid,
// ErrTooManyLinks, ErrXattrTooBig, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Create(ctx context.Context, parent Ino, name []byte, n NewNode) (*Attr, error) {
	return nil, errNotYet
}

// Tmpfile makes a nameless regular file (an orphan) in the zone of directory parent. Link may give it a name. ReleaseOrphan is due when it
// is closed without one. Errors as Create's.
func (s *Store) Tmpfile(ctx context.Context, parent Ino, n NewNode) (*Attr, error) {
	return nil, errNotYet
}

// Link adds a name to an inode that is no directory, and returns its new attributes. An orphan can be named only if Tmpfile made it; its
// first name becomes the primary one. Errors: ErrExist, ErrNotFound, ErrIsDir, ErrNotDir, ErrCrossZone, ErrTooManyLinks,
// ErrNameTooLong, ErrBadName, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Link(ctx context.Context, ino, parent Ino, name []byte) (*Attr, error) {
	return nil, errNotYet
}

// Unlink removes a name that is no directory and returns the attributes of its inode as they are now. If that was the last name, Nlink is 0,
// and either everything of the inode is gone, or Flags.Orphan() holds: open said that it is in use, or it has too many rows for one
// transaction. ReleaseOrphan is due then, at the last close or at once. open is asked within the transaction, perhaps more than once,
// and must not block; nil means that nothing is open. Errors: ErrNotFound, ErrIsDir, ErrNotDir, ErrNameTooLong, ErrBadName,
// ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Unlink(ctx context.Context, parent Ino, name []byte, open func(Ino) bool) (*Attr, error) {
	return nil, errNotYet
}

// Rmdir removes an empty directory; result and open as in Unlink. Errors: ErrNotFound, ErrNotDir, ErrNotEmpty, ErrInvalid (the root),
// ErrCrossZone (the directory of a zone), ErrNameTooLong, ErrBadName, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Rmdir(ctx context.Context, parent Ino, name []byte, open func(Ino) bool) (*Attr, error) {
	return nil, errNotYet
}

// RenameFlags as in renameat2(2).
type RenameFlags uint32

const (
	RenameNoReplace RenameFlags = 1 // fail with ErrExist if the new name exists
	RenameExchange  RenameFlags = 2 // both names exist, and swap inodes
	RenameWhiteout  RenameFlags = 4 // leave a character device 0/0 under the old name
)

// RenameResult holds what a rename changed, as it is now.
type RenameResult struct {
	Moved    *Attr // the inode that was under the old name
	Replaced *Attr // the inode that was under the new name, nil if none; with RenameExchange it is under the old name now, otherwise as Unlink's result
	Whiteout *Attr // the inode left under the old name by RenameWhiteout
	Same     bool  // both names led to one inode, or are one name: nothing was changed, Moved alone is set
}

// Rename moves a name, replacing what is under the new one as rename(2) and renameat2(2) say. It is one transaction and costs the same for
// a directory with any number of entries. The DEK wraps of an inode whose primary link moves are made anew for its new place. A
// whiteout belongs to uid and gid 0 (see RenameAs). open as in Unlink, asked of a replaced inode.
//
// Errors: ErrNotFound, ErrExist (RenameNoReplace), ErrNotDir, ErrIsDir, ErrNotEmpty, ErrLoop, ErrCrossZone (also for the directory of
// a zone), ErrInvalid (flags that exclude each other), ErrNameTooLong, ErrBadName, ErrTooManyLinks, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Rename(ctx context.Context, oldParent Ino, oldName []byte, newParent Ino, newName []byte, flags RenameFlags, open func(Ino) bool) (RenameResult, error) {
	return RenameResult{}, errNotYet
}

// Owner is who a new inode belongs to.
type Owner struct{ UID, GID uint32 }

// RenameAs is Rename with the owner of the whiteout.
func (s *Store) RenameAs(ctx context.Context, owner Owner, oldParent Ino, oldName []byte, newParent Ino, newName []byte, flags RenameFlags, open func(Ino) bool) (RenameResult, error) {
	return RenameResult{}, errNotYet
}

// ReleaseOrphan removes everything of an orphan: map, images, inline content, xattrs, target, its row; a GarbageObject record for its object
// is put with the last step. A large file takes several transactions; after a crash between them ReleaseOrphan goes on where it was.
// Releasing an inode that is gone or has a name is no error. It needs no zone keys.
func (s *Store) ReleaseOrphan(ctx context.Context, ino Ino) error { return errNotYet }

// Orphans calls fn for every orphan until it returns an error, which is returned. fn may call ReleaseOrphan. At mount all orphans are left
// over from a crash.
func (s *Store) Orphans(ctx context.Context, fn func(Ino) error) error { return errNotYet }

// Readlink returns the target of a symlink. ErrNotFound, ErrInvalid (no symlink), ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Readlink(ctx context.Context, ino Ino) ([]byte, error) { return nil, errNotYet }

// Dirent is a directory entry.
type Dirent struct {
	Name   []byte // the caller's own
	Ino    Ino
	Type   uint32 // file type bits of the mode
	Cookie uint64 // pass it to go on behind this entry: 3 .. 2^63-1, a function of the name alone
}

// DirentPlus is a directory entry with the attributes of its inode.
type DirentPlus struct {
	Dirent
	Attr *Attr
}

// ReadDir returns entries of a directory behind cookie, in ascending order of Cookie, "." and ".." excepted. Cookies 0, 1 and 2 start at the
// first entry (a caller uses 1 and 2 for "." and ".."). At most limit entries are returned, but entries of equal cookie are never
// split, so there may be more. No entries means the end. An entry that exists throughout is seen exactly once by going on from cookie
// to cookie, whatever changes around it. Errors: ErrNotFound, ErrNotDir, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) ReadDir(ctx context.Context, dir Ino, cookie uint64, limit int) ([]Dirent, error) {
	return nil, errNotYet
}

// ReadDirPlus is ReadDir with attributes, all of one snapshot.
func (s *Store) ReadDirPlus(ctx context.Context, dir Ino, cookie uint64, limit int) ([]DirentPlus, error) {
	return nil, errNotYet
}

// XattrFlags as in setxattr(2).
type XattrFlags uint32

const (
	XattrCreate  XattrFlags = 1 // fail with ErrExist if it exists
	XattrReplace XattrFlags = 2 // fail with ErrNoXattr if it does not
)

// GetXattr returns the value of an xattr, which may be empty; the slice is the caller's. An inode without any costs one cached lookup.
// Errors: ErrNotFound, ErrNoXattr, ErrNameTooLong, ErrBadName, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) GetXattr(ctx context.Context, ino Ino, name string) ([]byte, error) {
	return nil, errNotYet
}

// SetXattr sets an xattr; value is copied. Ctime becomes now. Errors: ErrNotFound, ErrExist, ErrNoXattr, ErrXattrTooBig, ErrXattrList,
// ErrNameTooLong, ErrBadName, ErrInvalid (flags), ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) SetXattr(ctx context.Context, ino Ino, name string, value []byte, flags XattrFlags) error {
	return errNotYet
}

// SetXattrWith is SetXattr and SetAttr in one transaction, for ACLs that change the mode. Returns the new attributes.
func (s *Store) SetXattrWith(ctx context.Context, ino Ino, name string, value []byte, flags XattrFlags, fn func(a *Attr) error) (*Attr, error) {
	return nil, errNotYet
}

// ListXattr returns the names of all xattrs, in no particular order. Errors: ErrNotFound, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) ListXattr(ctx context.Context, ino Ino) ([]string, error) { return nil, errNotYet }

// RemoveXattr removes an xattr. Ctime becomes now. Errors: ErrNotFound, ErrNoXattr, ErrNameTooLong, ErrBadName, ErrKeyUnavailable,
// ErrKeyRevoked.
func (s *Store) RemoveXattr(ctx context.Context, ino Ino, name string) error { return errNotYet }

// UnwrapDEK returns the file key of an epoch, which the caller verifies against Wrap.Commitment (BlockCipher.Verify) and wipes. Errors:
// ErrNotFound (no such epoch), ErrAuth, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) UnwrapDEK(ctx context.Context, a *Attr, epoch uint32) (*blockcrypt.Key, error) {
	return nil, errNotYet
}

// AddEpoch gives a regular file a fresh DEK under the next epoch and makes it the current one; a, from tx.Attr, is updated, and PutAttr has been done.
// The caller wipes the key. Errors: ErrInvalid (no regular file), ErrTooManyLinks never; ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) AddEpoch(tx *Tx, a *Attr) (*blockcrypt.Key, error) { return nil, errNotYet }

// DropEpoch removes the wrap of an epoch under which no block is left; a as in AddEpoch. ErrInvalid for the current epoch.
func (s *Store) DropEpoch(tx *Tx, a *Attr, epoch uint32) error { return errNotYet }

// Path returns the absolute path of an inode by its primary links. ErrNotFound for an orphan.
func (s *Store) Path(ctx context.Context, ino Ino) ([]byte, error) { return nil, errNotYet }

// Recovery collects, while a KV store replays its journal, the blocks whose ciphertext may not have reached its slot before a power cut, and
// repairs their map entries afterwards. It belongs to one goroutine. It needs no zone keys.
type Recovery struct{}

// NewRecovery returns an empty Recovery. rowsKey is not kept.
func NewRecovery(volume VolumeID, rowsKey *blockcrypt.Key) (*Recovery, error) { return nil, errNotYet }

// Replay takes one replayed record: its puts, its deleted keys, and what a key's value was just before it (nil if absent). Records come in
// the order of their commits. Slices are only read during the call. Errors: ErrAuth, ErrCorrupt, before's.
func (r *Recovery) Replay(puts iter.Seq2[[]byte, []byte], deletes [][]byte, before func(key []byte) ([]byte, error)) error {
	return errNotYet
}

// Pending returns how many blocks Finish will have to verify: 0 after a clean close.
func (r *Recovery) Pending() int { return 0 }

// RecoveryReport says what Finish did.
type RecoveryReport struct {
	Verified int // blocks whose ciphertext was there
	Lost     int // blocks that became holes again
	Files    int // inodes changed
	Shrunk   int // of these, inodes whose size went back
}

// Finish verifies every block that no marker covers. verify reads the slot of a block of a's object and reports whether the ciphertext has
// e.CRC (a missing or short object is false, an I/O error an error). Entries that do not match become holes, as they were before. If
// nothing but holes is left from such a block to the end, the size goes back to the start of the block, but not below what it was at
// the last checkpoint, marker, or change without data. Inodes that are gone are skipped. It runs once, after the KV store is open and
// before anything else uses the volume.
func (r *Recovery) Finish(ctx context.Context, s *Store, verify func(a *Attr, block uint64, e Entry) (bool, error)) (RecoveryReport, error) {
	return RecoveryReport{}, errNotYet
}

// FaultClass says what is wrong with a row.
type FaultClass string

// Fault is one finding of Check.
type Fault struct {
	Class  FaultClass
	Row    []byte // key of the row at fault
	Ino    Ino    // inode concerned, 0 if none
	Path   string // of the inode if CheckOptions.Paths and it can be resolved, quoted if it has odd bytes
	Detail string
}

// CheckOptions says what Check does.
type CheckOptions struct {
	Keys  bool // open dentry, symlink and xattr rows too, which needs the zone keys
	Paths bool // resolve paths for faults
}

// CheckReport counts what Check looked at.
type CheckReport struct {
	Rows, Inodes, Directories, Files, Orphans, Faults uint64
}

// Check reads every row of one snapshot, and calls report for whatever is wrong: rows that do not open or parse, dentries without inodes and
// inodes without dentries, wrong link counts, parents and primary links, map rows outside the file or of the wrong layout, wraps
// without zones, unknown rows. It streams; memory is some 64 bytes per inode. Blocks are not read (fs/content does). The error is of
// the store or ctx, not of a fault.
func (s *Store) Check(ctx context.Context, opt CheckOptions, report func(Fault)) (CheckReport, error) {
	return CheckReport{}, errNotYet
}
