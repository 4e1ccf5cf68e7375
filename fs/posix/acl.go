package posix

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Tags of ACL entries: acl(5), linux/posix_acl.h.
const (
	tagUserObj  = 1
	tagUser     = 2
	tagGroupObj = 4
	tagGroup    = 8
	tagMask     = 16
	tagOther    = 32

	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

type entry struct {
	tag, perm uint16
	id        uint32
}

func aclValue(entries ...entry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		id := e.id
		if e.tag != tagUser && e.tag != tagGroup {
			id = 0xffffffff
		}
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}

func (c *C) setACL(rel, name string, entries ...entry) {
	c.ok("set acl", unix.Setxattr(c.p(rel), name, aclValue(entries...), 0))
}

// hasACL fails unless the ACL is exactly this; none at all for no entries.
func (c *C) hasACL(rel, name string, entries ...entry) {
	buf := make([]byte, 1024)
	n, err := unix.Getxattr(c.p(rel), name, buf)
	if len(entries) == 0 {
		c.is("get acl", err, unix.ENODATA)
		return
	}
	c.ok("get acl", err)
	c.same("acl", buf[:n], string(aclValue(entries...)))
}

// aclCases: POSIX ACLs, access and default.
func aclCases() []Case {
	may := func(name string, who user, perm uint16, flags int, want unix.Errno, entries ...entry) Case {
		return Case{"acl", name, func(c *C) {
			c.fileOf(user{alice.uid, team, nil}, "f", 0o600, "content")
			c.setACL("f", accessACL, entries...)
			c.as(who, func() { c.is("open", tryOpen(c.p("f"), flags), want) })
		}}
	}
	return []Case{
		may("a named user may", carol, 6, unix.O_RDWR, 0,
			entry{tagUserObj, 6, 0}, entry{tagUser, 6, uint32(carol.uid)}, entry{tagGroupObj, 0, 0}, entry{tagMask, 7, 0}, entry{tagOther, 0, 0}),
		may("a named user may not more than the mask", carol, 6, unix.O_RDWR, unix.EACCES,
			entry{tagUserObj, 6, 0}, entry{tagUser, 6, uint32(carol.uid)}, entry{tagGroupObj, 0, 0}, entry{tagMask, 4, 0}, entry{tagOther, 0, 0}),
		may("a named user who is denied, though others may", carol, 0, unix.O_RDONLY, unix.EACCES,
			entry{tagUserObj, 6, 0}, entry{tagUser, 0, uint32(carol.uid)}, entry{tagGroupObj, 0, 0}, entry{tagMask, 7, 0}, entry{tagOther, 7, 0}),
		may("somebody who is not named is other", carol, 0, unix.O_RDONLY, unix.EACCES,
			entry{tagUserObj, 6, 0}, entry{tagUser, 7, uint32(bob.uid)}, entry{tagGroupObj, 7, 0}, entry{tagMask, 7, 0}, entry{tagOther, 0, 0}),
		may("a member of a named group may", user{61009, 61200, nil}, 0, unix.O_RDONLY, 0,
			entry{tagUserObj, 6, 0}, entry{tagGroupObj, 0, 0}, entry{tagGroup, 4, 61200}, entry{tagMask, 7, 0}, entry{tagOther, 0, 0}),
		may("a member of a named group by a supplementary group may", user{61009, 61009, []int{61200}}, 0, unix.O_RDONLY, 0,
			entry{tagUserObj, 6, 0}, entry{tagGroupObj, 0, 0}, entry{tagGroup, 4, 61200}, entry{tagMask, 7, 0}, entry{tagOther, 0, 0}),
		may("the owning group is limited by the mask", bob, 0, unix.O_RDWR, unix.EACCES,
			entry{tagUserObj, 6, 0}, entry{tagGroupObj, 6, 0}, entry{tagMask, 4, 0}, entry{tagOther, 0, 0}),
		may("the owner is not limited by the mask", alice, 0, unix.O_RDWR, 0,
			entry{tagUserObj, 6, 0}, entry{tagGroupObj, 6, 0}, entry{tagMask, 0, 0}, entry{tagOther, 0, 0}),
		{"acl", "the mask is the group bits of the mode", func(c *C) {
			c.file("f", "")
			e := []entry{{tagUserObj, 7, 0}, {tagUser, 7, 9}, {tagGroupObj, 1, 0}, {tagMask, 5, 0}, {tagOther, 4, 0}}
			c.setACL("f", accessACL, e...)
			c.mode("f", 0o754)
			c.hasACL("f", accessACL, e...)
		}},
		{"acl", "chmod changes owner, mask and other", func(c *C) {
			c.file("f", "")
			c.setACL("f", accessACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 1, 0}, entry{tagMask, 5, 0}, entry{tagOther, 4, 0})
			c.ok("chmod", unix.Chmod(c.p("f"), 0o421))
			c.hasACL("f", accessACL, entry{tagUserObj, 4, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 1, 0}, entry{tagMask, 2, 0}, entry{tagOther, 1, 0})
			c.mode("f", 0o421)
		}},
		{"acl", "one that says no more than the mode is not kept", func(c *C) {
			c.file("f", "")
			c.setACL("f", accessACL, entry{tagUserObj, 7, 0}, entry{tagGroupObj, 5, 0}, entry{tagOther, 1, 0})
			c.mode("f", 0o751)
			c.hasACL("f", accessACL)
		}},
		{"acl", "a minimal one takes the place of a full one", func(c *C) {
			c.file("f", "")
			c.setACL("f", accessACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 1, 0}, entry{tagMask, 5, 0}, entry{tagOther, 4, 0})
			c.setACL("f", accessACL, entry{tagUserObj, 6, 0}, entry{tagGroupObj, 4, 0}, entry{tagOther, 0, 0})
			c.mode("f", 0o640)
			c.hasACL("f", accessACL)
		}},
		{"acl", "removing it leaves the mode", func(c *C) {
			c.file("f", "")
			c.setACL("f", accessACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 1, 0}, entry{tagMask, 5, 0}, entry{tagOther, 4, 0})
			c.ok("remove", unix.Removexattr(c.p("f"), accessACL))
			c.hasACL("f", accessACL)
			c.mode("f", 0o754)
		}},
		{"acl", "removing one that is not there", func(c *C) {
			c.file("f", "")
			c.ok("remove", unix.Removexattr(c.p("f"), accessACL))
		}},
		{"acl", "only the owner may set it", func(c *C) {
			c.fileOf(alice, "f", 0o666, "")
			v := aclValue(entry{tagUserObj, 7, 0}, entry{tagGroupObj, 7, 0}, entry{tagOther, 7, 0})
			c.as(carol, func() { c.is("set", unix.Setxattr(c.p("f"), accessACL, v, 0), unix.EPERM) })
			c.as(alice, func() { c.ok("set", unix.Setxattr(c.p("f"), accessACL, v, 0)) })
			c.mode("f", 0o777)
		}},
		{"acl", "setting it outside of the group drops set-group-id", func(c *C) {
			c.fileOf(user{alice.uid, carol.gid, nil}, "f", 0o2755, "")
			c.as(alice, func() {
				c.setACL("f", accessACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 5, 0}, entry{tagMask, 5, 0}, entry{tagOther, 5, 0})
			})
			c.mode("f", 0o755)
		}},
		{"acl", "setting it in the group keeps set-group-id", func(c *C) {
			c.fileOf(user{alice.uid, team, nil}, "f", 0o2755, "")
			c.as(alice, func() {
				c.setACL("f", accessACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 5, 0}, entry{tagMask, 5, 0}, entry{tagOther, 5, 0})
			})
			c.mode("f", 0o2755)
		}},
		{"acl", "malformed", func(c *C) {
			c.file("f", "")
			for name, v := range map[string][]byte{
				"cut":        aclValue(entry{tagUserObj, 7, 0})[:7],
				"no entries": aclValue(entry{tagUserObj, 7, 0}),
				"no mask":    aclValue(entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 1, 0}, entry{tagOther, 4, 0}),
				"order":      aclValue(entry{tagGroupObj, 7, 0}, entry{tagUserObj, 1, 0}, entry{tagOther, 4, 0}),
			} {
				c.is(name, unix.Setxattr(c.p("f"), accessACL, v, 0), unix.EINVAL)
			}
		}},
		{"acl", "a default one on a file", func(c *C) {
			c.file("f", "")
			v := aclValue(entry{tagUserObj, 7, 0}, entry{tagGroupObj, 7, 0}, entry{tagOther, 7, 0})
			c.is("set", unix.Setxattr(c.p("f"), defaultACL, v, 0), unix.EACCES)
		}},
		{"acl", "the default is inherited by files, instead of the umask", func(c *C) {
			unix.Umask(0o077)
			c.mkdir("d", 0o755)
			c.setACL("d", defaultACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 5, 0}, entry{tagMask, 7, 0}, entry{tagOther, 5, 0})
			c.open("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o666)
			c.hasACL("d/f", accessACL, entry{tagUserObj, 6, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 5, 0}, entry{tagMask, 6, 0}, entry{tagOther, 4, 0})
			c.mode("d/f", 0o664)
			c.hasACL("d/f", defaultACL)
		}},
		{"acl", "the default is inherited by directories, as default too", func(c *C) {
			c.mkdir("d", 0o755)
			e := []entry{{tagUserObj, 7, 0}, {tagUser, 7, 9}, {tagGroupObj, 5, 0}, {tagMask, 7, 0}, {tagOther, 5, 0}}
			c.setACL("d", defaultACL, e...)
			c.ok("mkdir", unix.Mkdir(c.p("d/sub"), 0o777))
			c.hasACL("d/sub", accessACL, e...)
			c.hasACL("d/sub", defaultACL, e...)
			c.mode("d/sub", 0o775)
		}},
		{"acl", "a minimal default gives a mode and no ACL", func(c *C) {
			c.mkdir("d", 0o755)
			c.setACL("d", defaultACL, entry{tagUserObj, 7, 0}, entry{tagGroupObj, 7, 0}, entry{tagOther, 0, 0})
			c.open("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o666)
			c.hasACL("d/f", accessACL)
			c.mode("d/f", 0o660)
		}},
		{"acl", "the default is inherited by fifos and nameless files, not by links", func(c *C) {
			c.mkdir("d", 0o755)
			c.setACL("d", defaultACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 5, 0}, entry{tagMask, 7, 0}, entry{tagOther, 5, 0})
			want := []entry{{tagUserObj, 6, 0}, {tagUser, 7, 9}, {tagGroupObj, 5, 0}, {tagMask, 6, 0}, {tagOther, 4, 0}}
			c.ok("mkfifo", unix.Mkfifo(c.p("d/p"), 0o666))
			c.hasACL("d/p", accessACL, want...)
			c.symlink("x", "d/l")
			c.mode("d/l", 0o777)
			fd := c.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o666)
			eq(c, "mode of the nameless file", c.fstat(fd).Mode&0o777, 0o664)
		}},
		{"acl", "removing the default", func(c *C) {
			c.mkdir("d", 0o755)
			c.setACL("d", defaultACL, entry{tagUserObj, 7, 0}, entry{tagUser, 7, 9}, entry{tagGroupObj, 5, 0}, entry{tagMask, 7, 0}, entry{tagOther, 5, 0})
			c.ok("remove", unix.Removexattr(c.p("d"), defaultACL))
			c.hasACL("d", defaultACL)
			c.open("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o666)
			c.mode("d/f", 0o644)
		}},
		{"acl", "search of a directory by a named user", func(c *C) {
			c.mkdir("d", 0o700)
			c.file("d/f", "content")
			c.as(carol, func() { c.is("open", tryOpen(c.p("d/f"), unix.O_RDONLY), unix.EACCES) })
			c.setACL("d", accessACL, entry{tagUserObj, 7, 0}, entry{tagUser, 1, uint32(carol.uid)}, entry{tagGroupObj, 0, 0}, entry{tagMask, 1, 0}, entry{tagOther, 0, 0})
			c.as(carol, func() { c.ok("open", tryOpen(c.p("d/f"), unix.O_RDONLY)) })
			c.as(bob, func() { c.is("open", tryOpen(c.p("d/f"), unix.O_RDONLY), unix.EACCES) })
		}},
		{"acl", "a change is seen at once", func(c *C) {
			c.file("f", "content")
			full := []entry{{tagUserObj, 6, 0}, {tagUser, 0, uint32(carol.uid)}, {tagGroupObj, 4, 0}, {tagMask, 4, 0}, {tagOther, 4, 0}}
			c.as(carol, func() { c.ok("open", tryOpen(c.p("f"), unix.O_RDONLY)) })
			c.setACL("f", accessACL, full...)
			c.as(carol, func() { c.is("open", tryOpen(c.p("f"), unix.O_RDONLY), unix.EACCES) })
			c.ok("remove", unix.Removexattr(c.p("f"), accessACL))
			c.as(carol, func() { c.ok("open", tryOpen(c.p("f"), unix.O_RDONLY)) })
		}},
	}
}
