package meta

import (
	"errors"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Errors of this package. Every error it returns matches one of these, an error of package kv, or the context's error under errors.Is.
var (
	// ErrNotFound: no such name, inode, row or zone. A caller that holds the inode number from an earlier lookup reports it as stale.
	ErrNotFound = errors.New("meta: not found")
	// ErrExist: the name exists and the operation asked for a new one.
	ErrExist = errors.New("meta: exists")
	// ErrNotDir: a directory was needed and the inode is none.
	ErrNotDir = errors.New("meta: not a directory")
	// ErrIsDir: the inode is a directory and the operation takes anything else.
	ErrIsDir = errors.New("meta: is a directory")
	// ErrTooMany: there is more below a directory than can be put into another zone at once.
	ErrTooMany = errors.New("meta: too many names")
	// ErrNotEmpty: the directory to be removed or replaced has entries.
	ErrNotEmpty = errors.New("meta: directory not empty")
	// ErrNameTooLong: a name is longer than MaxName, or a symlink target longer than MaxTarget.
	ErrNameTooLong = errors.New("meta: name too long")
	// ErrBadName: a name is empty, "." or ".." where a new name is needed, or holds '/' or NUL.
	ErrBadName = errors.New("meta: bad name")
	// ErrInvalid: an argument makes no sense (unknown flag, a mode without or with a changed file type, an inode of the wrong type).
	ErrInvalid = errors.New("meta: invalid argument")
	// ErrCrossZone: the operation would carry an inode from one zone into another; copy instead.
	ErrCrossZone = errors.New("meta: crosses a zone boundary")
	// ErrFileKeys: files cannot change between keys that the zone's key wraps and keys that a CMK wraps itself.
	ErrFileKeys = errors.New("meta: data keys are wrapped in another way")
	// ErrLoop: a directory would become its own descendant.
	ErrLoop = errors.New("meta: directory loop")
	// ErrTooManyLinks: the inode has MaxLinks links.
	ErrTooManyLinks = errors.New("meta: too many links")
	// ErrNoXattr: the inode has no such extended attribute.
	ErrNoXattr = errors.New("meta: no such extended attribute")
	// ErrXattrTooBig: an xattr value is longer than MaxXattrValue.
	ErrXattrTooBig = errors.New("meta: extended attribute too big")
	// ErrXattrList: the names of the inode's xattrs would take more than MaxXattrList bytes.
	ErrXattrList = errors.New("meta: too many extended attributes")
	// ErrStale: a row was written from a copy that is not the current one (see Tx.PutAttr), or the inode is not what it was.
	ErrStale = errors.New("meta: stale copy")
	// ErrCorrupt: a row that opened, or one that is not sealed, does not parse, or rows contradict each other. Never tampering with a
	// sealed value, which is ErrAuth.
	ErrCorrupt = errors.New("meta: corrupt row")
	// ErrAuth: a sealed row or wrap does not open in its place: changed, moved, or sealed under another key.
	ErrAuth = errors.New("meta: row not authentic")
	// ErrKeyUnavailable: the keys of the zone cannot be had now (key manager or HSM unreachable). Worth a retry.
	ErrKeyUnavailable = errors.New("meta: zone key unavailable")
	// ErrKeyRevoked: the keys of the zone may not be used (key disabled, deleted, or directory locked).
	ErrKeyRevoked = errors.New("meta: zone key revoked")
	// ErrReadOnlyTx: a write in a View.
	ErrReadOnlyTx = errors.New("meta: write in a read transaction")
	// ErrNoSpace and ErrReadOnly are the KV store's own, so that either name matches.
	ErrNoSpace  = kv.ErrNoSpace
	ErrReadOnly = kv.ErrReadOnly

	errTooBig = kv.ErrTooBig
)
