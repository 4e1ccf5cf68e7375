package meta

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// FaultClass says what is wrong.
type FaultClass string

// Classes of faults.
const (
	FaultAuth      FaultClass = "auth"      // a sealed row does not open in its place
	FaultFormat    FaultClass = "format"    // a row does not parse
	FaultUnknown   FaultClass = "unknown"   // a row of no known kind
	FaultStray     FaultClass = "stray"     // a row of an inode that does not exist, or is not of the row's kind
	FaultDentry    FaultClass = "dentry"    // a dentry without its inode, with a wrong type, or that its inode does not know
	FaultName      FaultClass = "name"      // a dentry or xattr whose tag is not that of its name
	FaultLink      FaultClass = "link"      // a primary link or link row without its dentry
	FaultLinkCount FaultClass = "nlink"     // a link count that is not the number of links
	FaultParent    FaultClass = "parent"    // an inode whose directory is none, or a directory that is not connected to the root
	FaultOrphan    FaultClass = "orphan"    // an orphan row without its orphan, or the other way round
	FaultMap       FaultClass = "map"       // a map entry beyond the end, with a wrong length, or under an epoch without a wrap
	FaultAllocated FaultClass = "allocated" // Allocated is not what the map adds up to
	FaultImage     FaultClass = "image"     // an image that its map entry does not describe
	FaultContent   FaultClass = "content"   // an inline row or a target that is missing or wrong
	FaultXattr     FaultClass = "xattr"     // xattrs that are not what the inode says
	FaultZone      FaultClass = "zone"      // a zone without directory, an inode without zone or in another one than its directory
	FaultCounter   FaultClass = "counter"   // a counter that is missing or behind
	FaultGarbage   FaultClass = "garbage"   // garbage that is in use
)

// Fault is one finding of Check.
type Fault struct {
	Class  FaultClass
	Row    []byte // key of the row at fault
	Ino    Ino    // inode concerned, 0 if none
	Path   string // of the inode, quoted as Go does, if CheckOptions.Paths and it can be found
	Detail string // never holds names
}

// String returns the fault as one line.
func (f Fault) String() string {
	s := string(f.Class) + ": "
	if f.Ino != 0 {
		s += fmt.Sprintf("inode %d: ", f.Ino)
	}
	if f.Path != "" {
		s += f.Path + ": "
	}
	return s + f.Detail + fmt.Sprintf(" (row %x)", f.Row)
}

// CheckOptions says what Check does.
type CheckOptions struct {
	Keys  bool // open dentry, symlink and xattr rows too, which needs the zones' keys
	Paths bool // find paths for faults; needs the zones' keys
}

// CheckReport counts what Check looked at.
type CheckReport struct {
	Rows        uint64
	Inodes      uint64 // all types
	Directories uint64
	Files       uint64 // regular
	Orphans     uint64
	Faults      uint64
	Closed      uint64 // zones whose keys could not be had: their names and values were not opened
}

// Check reads every row of one snapshot, and calls report for whatever is wrong: rows that do not open or parse, names and inodes that do not
// fit together, link counts, directory loops, map rows, zones, counters, unknown rows. It streams; what it keeps is some 64 bytes for each
// inode. Without CheckOptions.Keys, and in zones whose keys cannot be had (CheckReport.Closed), all of the structure is checked but not where
// each name leads. Blocks are not read (fs/content does that). The error is one of the store or ctx, never a fault.
func (s *Store) Check(ctx context.Context, opt CheckOptions, report func(Fault)) (CheckReport, error) {
	c := checker{s: s, opt: opt, report: report}
	err := s.View(ctx, func(tx *Tx) error {
		c.tx, tx.passing = tx, true
		if err := c.scan(); err != nil {
			return err
		}
		return c.finish()
	})
	if err != nil {
		return c.result, fmt.Errorf("check metadata: %w", err)
	}
	return c.result, nil
}

// checker is one run of Check.
type checker struct {
	s      *Store
	opt    CheckOptions
	report func(Fault)
	tx     *Tx
	result CheckReport

	inodes []checkInode // ascending
	file   checkFile
	zones  map[ZoneID]Ino // zones that have rows, and their directories
	keys   map[ZoneID]keysOf
	blobs  map[ZoneID]Ino  // a file of each zone whose key a CMK wraps itself
	closed map[ZoneID]bool // zones whose keys cannot be had, whatever the reason
	next   uint64          // counter of inode numbers
	failed error           // ends the scan
}

// checkInode is what is kept of an inode.
type checkInode struct {
	ino      Ino
	parent   Ino
	tag      uint64 // tagPrefix of the primary link
	zone     ZoneID
	nlink    uint32
	links    uint32 // link rows seen
	names    uint32 // dentries seen in this directory
	expected uint32 // dentries that inodes say are in this directory
	subdirs  uint32 // directories that say this is their parent
	xattrs   uint32 // XattrList, less what was seen
	typ      uint16 // file type bits >> 12
	marks    uint16
}

const (
	markOrphan    = 1 << iota // the inode is an orphan
	markOrphanRow             // its row was seen
	markPrimary               // the dentry of its primary link was seen
	markTarget                // the row of its target was seen
	markConnected             // known to be connected to the root
	markVisiting              // on the way to the root
	markBlocks                // blocks are allocated, and no entry was seen
	markDamaged               // the row does not open: reported, nothing else is known
)

func (n *checkInode) isDir() bool { return uint32(n.typ)<<12 == ModeDir }

// find returns what is kept of an inode, or nil.
func (c *checker) find(ino Ino) *checkInode {
	lo, hi := 0, len(c.inodes)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if c.inodes[mid].ino < ino {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(c.inodes) && c.inodes[lo].ino == ino {
		return &c.inodes[lo]
	}
	return nil
}

// damaged reports whether the row of an inode was found not to open, so that what depends on it cannot be told.
func (c *checker) damaged(ino Ino) bool {
	n := c.find(ino)
	return n != nil && n.marks&markDamaged != 0
}

// fault reports a finding, unless the store failed: what was not read cannot be judged.
func (c *checker) fault(class FaultClass, key []byte, ino Ino, format string, args ...any) {
	if c.failed != nil {
		return
	}
	f := Fault{Class: class, Row: append([]byte(nil), key...), Ino: ino, Detail: fmt.Sprintf(format, args...)}
	if c.opt.Paths && ino != 0 {
		if path, err := c.tx.path(ino); err == nil {
			f.Path = strconv.Quote(string(path))
		}
	}
	c.result.Faults++
	c.report(f)
}

// bad reports a row that does not open or parse, and ends the scan for any other error.
func (c *checker) bad(key []byte, ino Ino, err error) {
	switch {
	case errors.Is(err, ErrAuth):
		c.fault(FaultAuth, key, ino, "not authentic: changed, moved, or sealed under another key")
	case errors.Is(err, ErrCorrupt):
		c.fault(FaultFormat, key, ino, "%v", err)
	default:
		c.failed = err
	}
}

// scan reads all rows in the order of their keys: inodes come first.
func (c *checker) scan() error {
	c.zones, c.closed, c.keys = make(map[ZoneID]Ino), make(map[ZoneID]bool), make(map[ZoneID]keysOf)
	c.blobs = make(map[ZoneID]Ino)
	err := c.tx.r.Scan(c.tx.ctx, []byte{1}, nil, 0, func(k, v []byte) bool {
		c.result.Rows++
		c.row(k, v)
		return c.failed == nil
	})
	if err == nil {
		err = c.failed
	}
	return err
}

// row checks one row by its kind. Keys and values are valid during the call only.
func (c *checker) row(key, value []byte) {
	switch key[0] {
	case kindAttr:
		c.attr(key, value)
	case kindImage:
		c.image(key, value)
	case kindMap:
		c.mapRow(key, value)
	case kindDentry:
		c.dentry(key, value)
	case kindGarbage:
		c.garbage(key, value)
	case kindInline:
		c.inline(key, value)
	case kindLink:
		c.link(key, value)
	case kindMarker:
		if !IsMarkerKey(key) || decodeMark(value, "marker") != nil {
			c.fault(FaultFormat, key, 0, "marker row")
		}
	case kindCounter:
		c.counter(key, value)
	case kindOrphan:
		c.orphan(key, value)
	case kindSymlink:
		c.symlink(key, value)
	case kindXattr:
		c.xattr(key, value)
	case kindZone:
		c.zone(key, value)
	case kindPolicy:
		c.policy(key, value)
	case kindJob:
		if _, err := c.s.openJob(key, value); err != nil {
			c.bad(key, 0, err)
		}
	case kindKept:
		if _, err := c.s.openKept(key, value); err != nil {
			c.bad(key, 0, err)
		}
	case kindQueue:
		if err := c.s.checkQueue(key, value); err != nil {
			c.bad(key, 0, err)
		}
	default:
		c.fault(FaultUnknown, key, 0, "row of unknown kind %q", key[0])
	}
}
