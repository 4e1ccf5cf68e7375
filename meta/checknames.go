package meta

// zoneOf returns the keys of the zone of an inode. ok is false if they are not to be used, or cannot be had: a zone is given up once, so
// that an absent key manager is not waited for at every row.
func (c *checker) zoneOf(n *checkInode) (*ZoneKeys, bool) {
	if !c.opens(n.zone) {
		return nil, false
	}
	zk, err := c.s.zoneKeys(c.tx.ctx, n.zone)
	if err != nil {
		c.closed[n.zone] = true
		c.result.Closed++
	}
	return zk, err == nil
}

// opens reports whether rows of a zone are opened.
func (c *checker) opens(zone ZoneID) bool { return c.opt.Keys && !c.closed[zone] }

func (c *checker) dentry(key, value []byte) {
	parent, tag, ok := parseInoTag(kindDentry, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "dentry key")
		return
	}
	dir := c.find(parent)
	if c.damaged(parent) {
		return
	}
	if dir == nil || !dir.isDir() || dir.marks&markOrphan != 0 {
		c.fault(FaultStray, key, parent, "dentry in no directory")
		return
	}
	dir.names++
	zk, ok := c.zoneOf(dir)
	if !ok {
		return
	}
	plain, err := openRow(zk.Names, c.s.volume, key, value)
	var d dentry
	if err == nil {
		d, err = decodeDentry(plain)
	}
	if err != nil {
		c.bad(key, parent, err)
		return
	}
	if zk.nameTag(parent, d.name) != tag {
		c.fault(FaultName, key, parent, "tag of a dentry is not that of its name")
		return
	}
	c.leadsTo(key, parent, tag, &d)
}

// leadsTo checks that the inode of a dentry knows it.
func (c *checker) leadsTo(key []byte, parent Ino, tag NameTag, d *dentry) {
	n := c.find(d.ino)
	switch {
	case n == nil:
		c.fault(FaultDentry, key, parent, "dentry leads to inode %d, which does not exist", d.ino)
		return
	case n.marks&markDamaged != 0:
		c.toDamaged(c.find(parent), d)
		return
	case uint32(n.typ)<<12 != d.typ:
		c.fault(FaultDentry, key, d.ino, "dentry says type %#o", d.typ)
	}
	if n.parent == parent && n.tag == tagPrefix(tag) && n.marks&markOrphan == 0 {
		n.marks |= markPrimary
		return
	}
	sealed, err := c.tx.get(linkKey(d.ino, parent, tag))
	if err != nil {
		c.failed = err
	} else if sealed == nil {
		c.fault(FaultDentry, key, d.ino, "dentry in inode %d is neither its primary link nor has a link row", parent)
	}
}

// toDamaged counts in the directory's favour what a damaged inode cannot say any more.
func (c *checker) toDamaged(dir *checkInode, d *dentry) {
	dir.expected++
	if d.typ == ModeDir {
		dir.subdirs++
	}
}

func (c *checker) symlink(key, value []byte) {
	ino, ok := parseIno(kindSymlink, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "symlink key")
		return
	}
	n := c.find(ino)
	if c.damaged(ino) {
		return
	}
	if n == nil || uint32(n.typ)<<12 != ModeSymlink {
		c.fault(FaultStray, key, ino, "target of no symlink")
		return
	}
	n.marks |= markTarget
	zk, ok := c.zoneOf(n)
	if !ok {
		return
	}
	plain, err := openRow(zk.Names, c.s.volume, key, value)
	var target []byte
	if err == nil {
		target, err = decodeTarget(plain)
	}
	if err != nil {
		c.bad(key, ino, err)
		return
	}
	a, err := c.tx.readAttr(ino)
	if err != nil {
		c.failed = err
	} else if a.Size != uint64(len(target)) {
		c.fault(FaultContent, key, ino, "target of %d bytes, size %d", len(target), a.Size)
	}
}

func (c *checker) xattr(key, value []byte) {
	ino, tag, ok := parseInoTag(kindXattr, key)
	if !ok {
		c.fault(FaultFormat, key, 0, "xattr key")
		return
	}
	n := c.find(ino)
	if c.damaged(ino) {
		return
	}
	if n == nil {
		c.fault(FaultStray, key, ino, "xattr of no inode")
		return
	}
	zk, ok := c.zoneOf(n)
	if !ok {
		return
	}
	name, _, err := c.tx.openXattr(zk, key, value)
	switch {
	case err != nil:
		c.bad(key, ino, err)
	case zk.xattrTag(ino, name) != tag:
		c.fault(FaultName, key, ino, "tag of an xattr is not that of its name")
	}
	if err == nil {
		n.xattrs -= uint32(len(name) + 1) // wraps around where there are more than the inode says: reported at the end
	}
}
