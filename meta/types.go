package meta

import (
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Ino is an inode number. Numbers are never used twice in a volume; 0 is no inode.
type Ino uint64

// RootIno is the inode of the volume's root directory.
const RootIno Ino = 1

// ZoneID numbers a zone of a volume; 0 is no zone.
type ZoneID uint64

// RootZone is the zone of the root directory.
const RootZone ZoneID = 1

// NameTag is the keyed hash of a name in its directory (or of an xattr's name in its inode). The zero tag is no name.
type NameTag [16]byte

// VolumeID identifies a volume.
type VolumeID = blockcrypt.VolumeID

// Limits. All of them are in bytes except MaxLinks and MaxWraps.
const (
	MaxName       = 255       // a file name
	MaxTarget     = 4095      // a symlink target
	MaxXattrName  = 255       // an xattr's name, its prefix included
	MaxXattrValue = 64 << 10  // an xattr's value
	MaxXattrList  = 64 << 10  // all xattr names of an inode, each with its terminating NUL
	MaxLinks      = 65000     // names of one inode that is no directory, as on ext4
	MaxWraps      = 64        // live epochs of one inode
	MaxZoneWraps  = 5         // wraps of one zone key
	MaxFileBlob   = 1024      // a data key that a CMK wraps itself
	MaxFileSize   = 1<<63 - 1 // the largest size an Attr may have; callers set lower limits
)

// Time is a point in time as inodes store it: seconds and nanoseconds (0..999999999) since the Unix epoch, UTC.
type Time struct {
	Sec  int64
	Nsec uint32
}

// TimeOf returns t as a Time.
func TimeOf(t time.Time) Time {
	return Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

// Time returns t as a time.Time in UTC.
func (t Time) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Layout says where the contents of a regular file lie.
type Layout uint8

const (
	LayoutNone   Layout = 0 // not a regular file
	LayoutInline Layout = 1 // in the inline row; an empty file has none
	LayoutSlots  Layout = 2 // in the slots of the object Attr.Serial, as the map rows say
)

// File types, the high bits of Attr.Mode, as in stat(2).
const (
	ModeType    uint32 = 0o170000
	ModeSocket  uint32 = 0o140000
	ModeSymlink uint32 = 0o120000
	ModeRegular uint32 = 0o100000
	ModeBlock   uint32 = 0o060000
	ModeDir     uint32 = 0o040000
	ModeChar    uint32 = 0o020000
	ModeFIFO    uint32 = 0o010000
	ModeSetUID  uint32 = 0o4000
	ModeSetGID  uint32 = 0o2000
	ModeSticky  uint32 = 0o1000
	modePerm    uint32 = 0o7777
)
