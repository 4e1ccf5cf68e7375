package meta

import (
	"slices"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Flags of an inode. They are kept by this package; callers read them.
type Flags uint16

const (
	// FlagXattr: the inode has at least one xattr.
	FlagXattr Flags = 1 << iota
	// FlagACLAccess: system.posix_acl_access is set.
	FlagACLAccess
	// FlagACLDefault: system.posix_acl_default is set.
	FlagACLDefault
	// FlagOrphan: the inode has no name and an orphan row; ReleaseOrphans is due when nobody uses it any more.
	FlagOrphan
	// FlagLinkable: an orphan made by Tmpfile, which Link may still name.
	FlagLinkable

	flagsKnown = FlagXattr | FlagACLAccess | FlagACLDefault | FlagOrphan | FlagLinkable
)

// HasACL reports whether an access or default ACL is set.
func (f Flags) HasACL() bool { return f&(FlagACLAccess|FlagACLDefault) != 0 }

// HasXattr reports whether the inode has xattrs.
func (f Flags) HasXattr() bool { return f&FlagXattr != 0 }

// Orphan reports whether the inode is an orphan.
func (f Flags) Orphan() bool { return f&FlagOrphan != 0 }

// Wrap is one wrapped file key (DEK).
type Wrap struct {
	Epoch      uint32
	Made       int64                           // when the key was drawn, in nanoseconds since 1970
	Uses       uint64                          // uses of the block key reserved so far; the content engine counts them
	KeyVersion uint32                          // of the zone key that it is wrapped under; 0 if the zone's CMK wraps it itself
	Wrapped    [blockcrypt.WrapSize]byte       // under the zone's wrap key, bound to the inode's place and the epoch
	Commitment [blockcrypt.CommitmentSize]byte // BlockCipher.Commitment; the holder of the unwrapped key verifies it before use
	// Blob is what the CMK made of the key, instead of Wrapped: at most MaxFileBlob bytes, "" where the zone's key wraps it. Parent and Tag are the place that it is bound to.
	Blob   string
	Parent Ino
	Tag    NameTag
}

// Attr is the row of an inode. An Attr that a method returns is the caller's own copy, Wraps included.
type Attr struct {
	Ino   Ino
	Mode  uint32 // file type and permission bits
	UID   uint32
	GID   uint32
	Nlink uint32 // names of the inode; 2 + subdirectories of a directory; 0 of an orphan
	Size  uint64 // bytes; of a symlink the length of its target, of a directory 0
	// Allocated is the storage that the contents take, for st_blocks: LayoutSlots: the sum of Entry.Allocated over all entries; otherwise 0.
	Allocated uint64

	Atime, Mtime, Ctime, Btime Time

	Rdev uint32 // device number of a device node, else 0
	Zone ZoneID // zone whose keys seal its names and wraps

	Parent Ino     // directory of the primary link; 0 when there is none
	Tag    NameTag // name tag of the primary link; zero when there is none, and of the root

	Layout Layout
	Params // how contents are stored; zero unless regular
	// Serial is the serial of the inode's object. With LayoutSlots the object exists (or will with the first write); otherwise it is the
	// last serial used, 0 for none. A new object takes Serial+1, so it never meets garbage of an older one.
	Serial uint64
	Upper  bool   // the map of the present object is the upper one (UpperBlock)
	Former Former // where what was not moved to the present object yet lies
	Epoch  uint32 // epoch that new blocks are sealed under; 0 unless regular
	Wraps  []Wrap // one for each live epoch, ascending; empty unless regular

	XattrList uint32 // bytes that listxattr(2) returns; kept by this package
	Flags     Flags  // kept by this package
	Version   uint64 // grows with every change of the row; kept by this package
}

// Type returns the file type bits of the mode.
func (a *Attr) Type() uint32 { return a.Mode & ModeType }

// IsDir reports whether the inode is a directory.
func (a *Attr) IsDir() bool { return a.Type() == ModeDir }

// IsRegular reports whether the inode is a regular file.
func (a *Attr) IsRegular() bool { return a.Type() == ModeRegular }

// Wrap returns the wrap of epoch, or nil. It points into a.Wraps.
func (a *Attr) Wrap(epoch uint32) *Wrap {
	for i := range a.Wraps {
		if a.Wraps[i].Epoch == epoch {
			return &a.Wraps[i]
		}
	}
	return nil
}

// ByCMK tells whether any of the file's keys is wrapped by a CMK itself.
func (a *Attr) ByCMK() bool {
	return slices.ContainsFunc(a.Wraps, func(w Wrap) bool { return w.ByCMK() })
}

// Clone returns a deep copy.
func (a *Attr) Clone() *Attr {
	c := *a
	c.Wraps = append([]Wrap(nil), a.Wraps...)
	return &c
}
