package meta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

func (c *checker) attr(key, value []byte) {
	ino, ok := parseIno(kindAttr, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "inode key")
		return
	}
	c.result.Inodes++
	plain, err := c.s.rows.open(key, value)
	var a *Attr
	if err == nil {
		a, err = decodeAttr(ino, plain)
	}
	if err != nil {
		c.inodes = append(c.inodes, checkInode{ino: ino, marks: markDamaged})
		c.bad(key, ino, err)
		return
	}
	n := checkInode{ino: ino, parent: a.Parent, tag: tagPrefix(a.Tag), zone: a.Zone, nlink: a.Nlink, xattrs: a.XattrList, typ: uint16(a.Type() >> 12)}
	c.noteKeys(a)
	switch {
	case a.IsDir():
		c.result.Directories++
	case a.IsRegular():
		c.result.Files++
	}
	switch {
	case a.Flags.Orphan():
		c.result.Orphans++
		n.marks |= markOrphan
	case a.Allocated > 0:
		n.marks |= markBlocks
	}
	c.inodes = append(c.inodes, n)
}

// tagPrefix is what is kept of a tag. Two names of one directory with equal prefixes would be counted as two, so nothing goes unseen.
func tagPrefix(tag NameTag) uint64 { return binary.BigEndian.Uint64(tag[:]) }

// checkFile is the file whose map rows or images are being scanned.
type checkFile struct {
	attr  *Attr // nil: no such inode
	known bool
	ino   Ino
	sum   uint64 // allocated by the entries seen
	holes bool   // a row did not open, so the sum says nothing
}

// open makes ino the file being scanned, and closes the one before.
func (c *checker) open(ino Ino) *Attr {
	if c.file.known && c.file.ino == ino {
		return c.file.attr
	}
	c.closeFile()
	c.file = checkFile{known: true, ino: ino}
	if n := c.find(ino); n == nil || n.marks&markDamaged != 0 {
		return nil
	}
	a, err := c.tx.readAttr(ino)
	if err != nil {
		c.failed = err
		return nil
	}
	c.file.attr = a
	return a
}

// closeFile compares what the file's map added up to. Removing an orphan may have begun.
func (c *checker) closeFile() {
	f := c.file
	c.file = checkFile{}
	if f.attr == nil || f.sum == 0 && !f.holes || f.attr.Flags.Orphan() {
		return
	}
	c.find(f.ino).marks &^= markBlocks
	if f.holes || f.attr.Allocated == f.sum {
		return
	}
	c.fault(FaultAllocated, attrKey(f.ino), f.ino, "%d bytes allocated, the map adds up to %d", f.attr.Allocated, f.sum)
}

func (c *checker) mapRow(key, value []byte) {
	ino, row, ok := parseIno8(kindMap, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "map key")
		return
	}
	a := c.open(ino)
	if c.damaged(ino) {
		return
	}
	if a == nil || a.Layout != LayoutSlots {
		c.fault(FaultStray, key, ino, "map row of no inode with slots")
		return
	}
	var m MapRow
	if err := c.s.openMapRow(key, value, &m); err != nil {
		c.file.holes = true
		c.bad(key, ino, err)
		return
	}
	for i := range m {
		if e := &m[i]; e.Present {
			c.file.sum += e.Allocated()
			c.entry(key, a, row*MapRowBlocks+uint64(i), e)
		}
	}
}

func (c *checker) entry(key []byte, a *Attr, block uint64, e *Entry) {
	p, ok := a.PlaneOf(block)
	switch {
	case !ok:
		c.fault(FaultMap, key, a.Ino, "block %d is mapped, the file has no such map", block)
	case block < p.Block(p.From) || block >= p.End(min(a.Size, p.To)):
		c.fault(FaultMap, key, a.Ino, "block %d is mapped, the file has blocks %d to %d there", block, p.Block(p.From), p.End(min(a.Size, p.To)))
	case int(e.PlainLen) > p.BlockSize:
		c.fault(FaultMap, key, a.Ino, "block %d has %d bytes of %d", block, e.PlainLen, p.BlockSize)
	case int(e.PlainLen) > blockcrypt.BlockLen(p.Index(block), a.Size, p.BlockSize):
		c.fault(FaultMap, key, a.Ino, "block %d has %d bytes, the file ends before", block, e.PlainLen)
	case a.Wrap(e.Epoch) == nil:
		c.fault(FaultMap, key, a.Ino, "block %d is sealed under epoch %d, which has no wrap", block, e.Epoch)
	}
}

func (c *checker) image(key, value []byte) {
	ino, block, ok := ParseImageKey(key)
	if !ok {
		c.fault(FaultFormat, key, 0, "image key")
		return
	}
	if c.find(ino) == nil {
		c.fault(FaultStray, key, ino, "image of no inode")
		return
	}
	row, i := RowOf(block)
	m, err := c.tx.MapRow(ino, row)
	clear(c.tx.maps)
	switch {
	case err != nil:
		if !errors.Is(err, ErrAuth) && !errors.Is(err, ErrCorrupt) {
			c.failed = err
		} // else the row itself is reported when its turn comes
	case m == nil || !m[i].Present:
		c.orphanImage(key, ino, block)
	case int(m[i].StoredLen)+ImageHeader != len(value) || m[i].CRC != blockcrypt.Checksum(value[ImageHeader:]):
		c.fault(FaultImage, key, ino, "image of block %d is not what the map describes", block)
	}
}

// orphanImage: only a file whose removal has begun may have images of blocks that are not mapped any more.
func (c *checker) orphanImage(key []byte, ino Ino, block uint64) {
	if c.find(ino).marks&markOrphan == 0 {
		c.fault(FaultImage, key, ino, "image of block %d, which is not mapped", block)
	}
}

func (c *checker) garbage(key, value []byte) {
	g, err := c.s.openGarbage(key, value)
	if err != nil {
		c.bad(key, g.Ino, err)
		return
	}
	if c.find(g.Ino) == nil || g.Op != GarbageObject {
		return
	}
	if a := c.open(g.Ino); a != nil && slices.ContainsFunc(a.Planes(), func(p Plane) bool { return p.Serial == g.Serial }) {
		c.fault(FaultGarbage, key, g.Ino, "the object in use, serial %d, is garbage", g.Serial)
	}
}

func (c *checker) inline(key, value []byte) {
	ino, ok := parseIno(kindInline, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "inline key")
		return
	}
	in, err := decodeInline(value)
	if err != nil {
		c.bad(key, ino, err)
		return
	}
	a := c.open(ino)
	switch {
	case c.damaged(ino):
	case a == nil || a.Layout != LayoutInline:
		c.fault(FaultStray, key, ino, "inline row of no inode with inline content")
	case a.Wrap(in.Epoch) == nil:
		c.fault(FaultContent, key, ino, "inline content is sealed under epoch %d, which has no wrap", in.Epoch)
	}
}

// mark opens a row whose key says all.
func (c *checker) mark(key, value []byte, ino Ino, what string) bool {
	plain, err := c.s.rows.open(key, value)
	if err == nil {
		err = decodeMark(plain, what)
	}
	if err != nil {
		c.bad(key, ino, err)
	}
	return err == nil
}

func (c *checker) link(key, value []byte) {
	ino, parent, tag, ok := parseLinkKey(key)
	if !ok {
		c.fault(FaultFormat, key, 0, "link key")
		return
	}
	if !c.mark(key, value, ino, "link") {
		return
	}
	n := c.find(ino)
	if n == nil || n.isDir() {
		c.fault(FaultStray, key, ino, "link row of no file")
		return
	}
	n.links++
	if dir := c.find(parent); dir != nil {
		dir.expected++
	}
	c.needDentry(key, ino, parent, tag)
}

// needDentry reports a link that has no dentry.
func (c *checker) needDentry(key []byte, ino, parent Ino, tag NameTag) {
	sealed, err := c.tx.get(dentryRowKey(parent, tag))
	if err != nil {
		c.failed = err
	} else if sealed == nil {
		c.fault(FaultLink, key, ino, "link in inode %d has no dentry", parent)
	}
}

func (c *checker) counter(key, value []byte) {
	plain, err := c.s.rows.open(key, value)
	var n uint64
	if err == nil {
		n, err = decodeCounter(plain)
	}
	switch {
	case err != nil:
		c.bad(key, 0, err)
	case bytes.Equal(key, counterKey(counterInode)):
		c.next = n
	default:
		c.fault(FaultUnknown, key, 0, "unknown counter")
	}
}

func (c *checker) orphan(key, value []byte) {
	ino, err := c.s.openOrphan(key, value)
	if err != nil {
		c.bad(key, ino, err)
		return
	}
	n := c.find(ino)
	if n != nil && n.marks&markDamaged != 0 {
		return
	}
	if n == nil || n.marks&markOrphan == 0 {
		c.fault(FaultOrphan, key, ino, "orphan row of no orphan")
		return
	}
	n.marks |= markOrphanRow
}

func (c *checker) zone(key, value []byte) {
	z, err := openZone(c.s.rows, key, value)
	if err != nil {
		c.bad(key, 0, err)
		return
	}
	c.zones[z.ID] = z.Dir
	c.zoneKeys(key, z)
	if _, err := c.tx.policy(z); err != nil {
		c.bad(key, z.Dir, err)
	}
	if n := c.find(z.Dir); !c.damaged(z.Dir) && (n == nil || !n.isDir() || n.zone != z.ID) {
		c.fault(FaultZone, key, z.Dir, "zone %d has no directory", z.ID)
	}
}

// keysOf is which versions of a zone's key its files' wraps name, and by which files.
type keysOf struct {
	low, high       uint32
	lowIno, highIno Ino
}

func (c *checker) noteKeys(a *Attr) {
	for i := range a.Wraps {
		if a.Wraps[i].ByCMK() {
			c.blobs[a.Zone] = a.Ino
			continue
		}
		v := a.Wraps[i].KeyVersion
		k, ok := c.keys[a.Zone]
		if !ok || v < k.low {
			k.low, k.lowIno = v, a.Ino
		}
		if v > k.high {
			k.high, k.highIno = v, a.Ino
		}
		c.keys[a.Zone] = k
	}
}

// zoneKeys compares them with the keys that the zone has.
func (c *checker) zoneKeys(key []byte, z *Zone) {
	oldest := z.KeyVersion
	if z.Former != nil {
		oldest--
	}
	if ino := c.blobs[z.ID]; ino != 0 && !z.ByCMK() {
		c.fault(FaultZone, key, ino, "a CMK wraps its key itself, and the zone is not of that kind")
	}
	switch k, ok := c.keys[z.ID]; {
	case !ok:
	case z.ByCMK():
		c.fault(FaultZone, key, k.lowIno, "wrapped under the zone's key, and the zone's CMK wraps keys itself")
	case k.low < oldest:
		c.fault(FaultZone, key, k.lowIno, "wrapped under version %d of the zone's key, which is gone", k.low)
	case k.high > z.KeyVersion:
		c.fault(FaultZone, key, k.highIno, "wrapped under version %d of the zone's key, the newest is %d", k.high, z.KeyVersion)
	}
}

// policy checks the row of a zone's policy against the zone's; zone checks that it is there.
func (c *checker) policy(key, value []byte) {
	id, ok := parseIno(kindPolicy, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "policy key")
		return
	}
	z, err := c.tx.zone(ZoneID(id))
	if errors.Is(err, ErrNotFound) {
		c.fault(FaultStray, key, 0, "policy of no zone")
		return
	}
	if err == nil {
		_, err = c.tx.policy(z)
	}
	if err != nil {
		c.bad(key, 0, err)
	}
}
