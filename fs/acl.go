package fs

import (
	"encoding/binary"
	"fmt"

	"github.com/kmsfs/kmsfs/meta"
)

// Names of the xattrs that hold POSIX ACLs.
const (
	xattrACLAccess  = "system.posix_acl_access"
	xattrACLDefault = "system.posix_acl_default"
)

// Tags of ACL entries, and the version word of their xattr encoding: linux/posix_acl.h, linux/posix_acl_xattr.h.
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclHeaderSize = 4
	aclEntrySize  = 8
)

// aclEntry is one entry of an ACL.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// acl is a POSIX ACL in the order of its encoding. parseACL gives valid ones only.
type acl []aclEntry

// parseACL decodes the xattr value of an ACL: version u32, then {tag u16, perm u16, id u32} each, little endian. The rules are acl(5)'s: exactly
// one owner, owning group and other entry, in ascending order of tags, and a mask if anybody is named. ErrInvalid of package meta otherwise.
func parseACL(b []byte) (acl, error) {
	if len(b) < aclHeaderSize || (len(b)-aclHeaderSize)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, fmt.Errorf("acl of %d bytes: %w", len(b), meta.ErrInvalid)
	}
	a := make(acl, 0, (len(b)-aclHeaderSize)/aclEntrySize)
	for b = b[aclHeaderSize:]; len(b) > 0; b = b[aclEntrySize:] {
		a = append(a, aclEntry{
			tag:  binary.LittleEndian.Uint16(b),
			perm: binary.LittleEndian.Uint16(b[2:]),
			id:   binary.LittleEndian.Uint32(b[4:]),
		})
	}
	return a, a.validate()
}

func (a acl) validate() error {
	var seen, last uint16
	for _, e := range a {
		single := e.tag != aclUser && e.tag != aclGroup
		switch {
		case e.perm&^7 != 0, e.tag < last, single && seen&e.tag != 0:
			return fmt.Errorf("acl entry: %w", meta.ErrInvalid)
		case e.tag&(aclUserObj|aclUser|aclGroupObj|aclGroup|aclMask|aclOther) == 0, e.tag&(e.tag-1) != 0:
			return fmt.Errorf("acl entry with tag %#x: %w", e.tag, meta.ErrInvalid)
		}
		seen, last = seen|e.tag, e.tag
	}
	const needed = aclUserObj | aclGroupObj | aclOther
	if seen&needed != needed || seen&(aclUser|aclGroup) != 0 && seen&aclMask == 0 {
		return fmt.Errorf("acl without its required entries: %w", meta.ErrInvalid)
	}
	return nil
}

// encode returns the xattr value of the ACL.
func (a acl) encode() []byte {
	b := make([]byte, aclHeaderSize, aclHeaderSize+len(a)*aclEntrySize)
	binary.LittleEndian.PutUint32(b, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// mode returns the permission bits that the ACL stands for, and whether they say all of it (nobody is named, no mask).
func (a acl) mode() (bits uint32, all bool) {
	all = true
	mask := -1
	for _, e := range a {
		switch e.tag {
		case aclUserObj:
			bits |= uint32(e.perm) << 6
		case aclGroupObj:
			bits |= uint32(e.perm) << 3
		case aclOther:
			bits |= uint32(e.perm)
		case aclMask:
			mask = int(e.perm)
			all = false
		default:
			all = false
		}
	}
	if mask >= 0 {
		bits = bits&^0o070 | uint32(mask)<<3
	}
	return bits, all
}

// group returns the entry that the group bits of a mode are about: the mask if there is one, else the owning group.
func (a acl) group() *aclEntry {
	var group *aclEntry
	for i := range a {
		switch a[i].tag {
		case aclMask:
			return &a[i]
		case aclGroupObj:
			group = &a[i]
		}
	}
	return group
}

// chmod changes the ACL in place as chmod(2) to perm (9 bits) does.
func (a acl) chmod(perm uint32) {
	for i := range a {
		switch a[i].tag {
		case aclUserObj:
			a[i].perm = uint16(perm>>6) & 7
		case aclOther:
			a[i].perm = uint16(perm) & 7
		}
	}
	if g := a.group(); g != nil {
		g.perm = uint16(perm>>3) & 7
	}
}

// inherit turns the copy of a directory's default ACL into the access ACL of a new inode that was asked for with mode: neither grants what
// the other withholds. It returns the mode of the inode.
func (a acl) inherit(mode uint32) uint32 {
	for i := range a {
		switch a[i].tag {
		case aclUserObj:
			a[i].perm &= uint16(mode>>6) & 7
		case aclOther:
			a[i].perm &= uint16(mode) & 7
		}
	}
	if g := a.group(); g != nil {
		g.perm &= uint16(mode>>3) & 7
	}
	bits, _ := a.mode()
	return mode&^0o777 | bits
}
