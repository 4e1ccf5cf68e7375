package meta

// finish compares what was seen with what every inode says.
func (c *checker) finish() error {
	c.closeFile()
	for i := range c.inodes {
		n := &c.inodes[i]
		if dir := c.find(n.parent); dir != nil && n.ino != RootIno {
			dir.expected++
			if n.isDir() {
				dir.subdirs++
			}
		}
	}
	for i := range c.inodes {
		if err := c.tx.ctx.Err(); err != nil {
			return err
		}
		if c.inodes[i].marks&markDamaged == 0 {
			c.inode(&c.inodes[i])
		}
		if c.failed != nil {
			return c.failed
		}
	}
	c.totals()
	return c.failed
}

// totals checks what there must be one of.
func (c *checker) totals() {
	if root := c.find(RootIno); root == nil {
		c.fault(FaultParent, attrKey(RootIno), RootIno, "there is no root directory")
	}
	if c.zones[RootZone] == 0 {
		c.fault(FaultZone, zoneKey(RootZone), 0, "there is no root zone")
	}
	last := RootIno
	if len(c.inodes) > 0 {
		last = c.inodes[len(c.inodes)-1].ino
	}
	if c.next <= uint64(last) {
		c.fault(FaultCounter, counterKey(counterInode), 0, "next inode number is %d, inode %d exists", c.next, last)
	}
}

func (c *checker) inode(n *checkInode) {
	key := attrKey(n.ino)
	c.linkCount(key, n)
	if n.marks&markOrphan != 0 {
		if n.marks&markOrphanRow == 0 {
			c.fault(FaultOrphan, key, n.ino, "orphan without orphan row")
		}
	} else if n.ino != RootIno {
		c.parent(key, n)
	}
	if n.isDir() && n.names != n.expected {
		c.fault(FaultDentry, key, n.ino, "directory has %d dentries, inodes know of %d", n.names, n.expected)
	}
	if c.opens(n.zone) && n.xattrs != 0 {
		c.fault(FaultXattr, key, n.ino, "names of xattrs differ by %d bytes from what the inode says", int32(n.xattrs))
	}
	if uint32(n.typ)<<12 == ModeSymlink && n.marks&markTarget == 0 {
		c.fault(FaultContent, key, n.ino, "symlink without target")
	}
	if n.marks&markBlocks != 0 {
		c.fault(FaultAllocated, key, n.ino, "blocks are allocated, but none is mapped")
	}
	if c.zones[n.zone] == 0 {
		c.fault(FaultZone, key, n.ino, "zone %d does not exist", n.zone)
	}
}

func (c *checker) linkCount(key []byte, n *checkInode) {
	want := n.links + 1
	switch {
	case n.marks&markOrphan != 0:
		want = n.links
	case n.isDir():
		want = n.subdirs + 2
	}
	if n.nlink != want {
		c.fault(FaultLinkCount, key, n.ino, "link count is %d, there are %d links", n.nlink, want)
	}
}

// parent checks the primary link of an inode, and that a directory is connected to the root.
func (c *checker) parent(key []byte, n *checkInode) {
	dir := c.find(n.parent)
	if c.damaged(n.parent) {
		return
	}
	if dir == nil || !dir.isDir() || dir.marks&markOrphan != 0 {
		c.fault(FaultParent, key, n.ino, "parent %d is no directory", n.parent)
		return
	}
	if dir.zone != n.zone && c.zones[n.zone] != n.ino {
		c.fault(FaultZone, key, n.ino, "is in zone %d, its directory in zone %d", n.zone, dir.zone)
	}
	if n.isDir() && !c.connected(n) {
		c.fault(FaultParent, key, n.ino, "directory is not connected to the root")
	}
	if n.marks&markPrimary != 0 {
		return
	}
	if c.opens(dir.zone) {
		c.fault(FaultLink, key, n.ino, "primary link in inode %d leads nowhere or elsewhere", n.parent)
		return
	}
	a, err := c.tx.readAttr(n.ino)
	if err != nil {
		c.failed = err
		return
	}
	c.needDentry(key, n.ino, a.Parent, a.Tag)
}

// connected walks up to the root, marking the way so that no directory is visited twice.
func (c *checker) connected(n *checkInode) bool {
	var way []*checkInode
	ok := false
	for at := n; at != nil && at.marks&markVisiting == 0; at = c.find(at.parent) {
		if at.ino == RootIno || at.marks&(markConnected|markDamaged) != 0 {
			ok = true
			break
		}
		at.marks |= markVisiting
		way = append(way, at)
	}
	for _, at := range way {
		at.marks &^= markVisiting
		if ok {
			at.marks |= markConnected
		}
	}
	return ok
}
