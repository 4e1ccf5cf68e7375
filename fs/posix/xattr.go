package posix

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (c *C) xattrNames(rel string) []string {
	buf := make([]byte, 65536)
	n, err := unix.Listxattr(c.p(rel), buf)
	c.ok("listxattr", err)
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	return names
}

func (c *C) xattr(rel, name string) string {
	buf := make([]byte, 65536)
	n, err := unix.Getxattr(c.p(rel), name, buf)
	c.ok("getxattr "+name, err)
	return string(buf[:n])
}

// capability is a valid value of security.capability: version 2, one capability permitted and effective.
func capability() []byte {
	b := make([]byte, 20)
	binary.LittleEndian.PutUint32(b, 0x02000001)
	binary.LittleEndian.PutUint32(b[4:], 1<<10)
	return b
}

// xattrCases: extended attributes, their namespaces and limits.
func xattrCases() (cases []Case) {
	setOn := func(name, what string, make func(c *C) string, xattr string, who user, want unix.Errno) Case {
		return Case{"xattr", fmt.Sprintf("%s on %s by %s", name, what, who.name()), func(c *C) {
			p := make(c)
			c.as(who, func() { c.is("setxattr", unix.Lsetxattr(p, xattr, []byte("v"), 0), want) })
		}}
	}
	file := func(c *C) string { return c.fileOf(alice, "x", 0o644, "") }
	open := func(c *C) string { return c.fileOf(alice, "x", 0o666, "") }
	dir := func(c *C) string { return c.dirOf(alice, "x", 0o755) }
	sticky := func(c *C) string { return c.dirOf(bob, "x", 0o1777) }
	link := func(c *C) string { return c.symlink("t", "x") }
	fifo := func(c *C) string { return c.fifo("x") }
	return append(cases,
		setOn("user", "a file", file, "user.a", alice, 0),
		setOn("user", "a file of another", file, "user.a", carol, unix.EACCES),
		setOn("user", "a writable file of another", open, "user.a", carol, 0),
		setOn("user", "a directory", dir, "user.a", alice, 0),
		setOn("user", "a sticky directory of another", sticky, "user.a", carol, unix.EPERM),
		setOn("user", "a symbolic link", link, "user.a", root, unix.EPERM),
		setOn("user", "a fifo", fifo, "user.a", root, unix.EPERM),
		setOn("trusted", "a file", file, "trusted.a", root, 0),
		setOn("trusted", "a file", file, "trusted.a", alice, unix.EPERM),
		setOn("trusted", "a symbolic link", link, "trusted.a", root, 0),
		setOn("security", "a file", file, "security.a", root, 0),
		setOn("security", "a file", file, "security.a", alice, unix.EPERM),
		setOn("an unknown namespace", "a file", file, "unknown.a", root, unix.EOPNOTSUPP),
		setOn("an unknown system attribute", "a file", file, "system.a", root, unix.EOPNOTSUPP),
		setOn("no namespace", "a file", file, "a", root, unix.EOPNOTSUPP),
		Case{"xattr", "set, get, list, remove", func(c *C) {
			c.file("f", "")
			eq(c, "names", len(c.xattrNames("f")), 0)
			c.ok("set", unix.Setxattr(c.p("f"), "user.one", []byte("1"), 0))
			c.ok("set", unix.Setxattr(c.p("f"), "user.two", []byte("22"), 0))
			eq(c, "names", strings.Join(c.xattrNames("f"), " "), "user.one user.two")
			eq(c, "value", c.xattr("f", "user.two"), "22")
			c.ok("remove", unix.Removexattr(c.p("f"), "user.one"))
			eq(c, "names", strings.Join(c.xattrNames("f"), " "), "user.two")
			c.is("get", one(unix.Getxattr(c.p("f"), "user.one", nil)), unix.ENODATA)
			c.is("remove again", unix.Removexattr(c.p("f"), "user.one"), unix.ENODATA)
		}},
		Case{"xattr", "a label of SELinux that is there", func(c *C) {
			c.file("f", "")
			c.ok("set", unix.Setxattr(c.p("f"), "security.selinux", []byte("system_u:object_r:etc_t:s0"), 0))
			eq(c, "value", c.xattr("f", "security.selinux"), "system_u:object_r:etc_t:s0")
			eq(c, "names", strings.Join(c.xattrNames("f"), " "), "security.selinux")
			c.ok("remove", unix.Removexattr(c.p("f"), "security.selinux"))
			eq(c, "names", len(c.xattrNames("f")), 0)
		}},
		Case{"xattr", "a label of SELinux that is not there", func(c *C) {
			c.file("f", "")
			c.is("get", one(unix.Getxattr(c.p("f"), "security.selinux", nil)), unix.ENODATA)
		}},
		Case{"xattr", "create and replace", func(c *C) {
			c.file("f", "")
			c.is("replace what is not there", unix.Setxattr(c.p("f"), "user.a", nil, unix.XATTR_REPLACE), unix.ENODATA)
			c.ok("create", unix.Setxattr(c.p("f"), "user.a", []byte("1"), unix.XATTR_CREATE))
			c.is("create what is there", unix.Setxattr(c.p("f"), "user.a", []byte("2"), unix.XATTR_CREATE), unix.EEXIST)
			c.ok("replace", unix.Setxattr(c.p("f"), "user.a", []byte("3"), unix.XATTR_REPLACE))
			eq(c, "value", c.xattr("f", "user.a"), "3")
			c.is("bad flags", unix.Setxattr(c.p("f"), "user.a", []byte("4"), 8), unix.EINVAL)
		}},
		Case{"xattr", "empty value, any bytes", func(c *C) {
			c.file("f", "")
			c.ok("set", unix.Setxattr(c.p("f"), "user.empty", nil, 0))
			c.ok("set", unix.Setxattr(c.p("f"), "user.bytes", []byte("\x00\xff\n"), 0))
			eq(c, "value", c.xattr("f", "user.empty"), "")
			eq(c, "value", c.xattr("f", "user.bytes"), "\x00\xff\n")
		}},
		Case{"xattr", "sizes without a buffer, and too small a one", func(c *C) {
			c.file("f", "")
			c.ok("set", unix.Setxattr(c.p("f"), "user.a", []byte("12345"), 0))
			n, err := unix.Getxattr(c.p("f"), "user.a", nil)
			c.ok("get size", err)
			eq(c, "size", n, 5)
			c.is("get", one(unix.Getxattr(c.p("f"), "user.a", make([]byte, 4))), unix.ERANGE)
			n, err = unix.Listxattr(c.p("f"), nil)
			c.ok("list size", err)
			eq(c, "size", n, len("user.a")+1)
			c.is("list", one(unix.Listxattr(c.p("f"), make([]byte, 3))), unix.ERANGE)
		}},
		Case{"xattr", "names of 255 bytes, not 256", func(c *C) {
			c.file("f", "")
			name := "user." + strings.Repeat("n", 250)
			c.ok("set", unix.Setxattr(c.p("f"), name, []byte("v"), 0))
			eq(c, "value", c.xattr("f", name), "v")
			c.is("set", unix.Setxattr(c.p("f"), name+"n", []byte("v"), 0), unix.ERANGE)
		}},
		Case{"xattr", "value of 2000 bytes", func(c *C) {
			c.file("f", "")
			v := strings.Repeat("v", 2000)
			c.ok("set", unix.Setxattr(c.p("f"), "user.a", []byte(v), 0))
			eq(c, "value", c.xattr("f", "user.a"), v)
		}},
		Case{"xattr", "value over 64 KiB", func(c *C) {
			c.file("f", "")
			c.is("set", unix.Setxattr(c.p("f"), "user.a", make([]byte, 65537), 0), unix.E2BIG)
		}},
		Case{"xattr", "trusted is hidden from users", func(c *C) {
			c.fileOf(alice, "f", 0o644, "")
			c.ok("set", unix.Setxattr(c.p("f"), "trusted.a", []byte("v"), 0))
			c.ok("set", unix.Setxattr(c.p("f"), "user.a", []byte("v"), 0))
			c.as(alice, func() {
				eq(c, "names", strings.Join(c.xattrNames("f"), " "), "user.a")
				c.is("get", one(unix.Getxattr(c.p("f"), "trusted.a", nil)), unix.ENODATA)
			})
			eq(c, "names for root", strings.Join(c.xattrNames("f"), " "), "trusted.a user.a")
		}},
		Case{"xattr", "reading user attributes needs read permission", func(c *C) {
			c.fileOf(alice, "f", 0o600, "")
			c.ok("set", unix.Setxattr(c.p("f"), "user.a", []byte("v"), 0))
			c.as(carol, func() { c.is("get", one(unix.Getxattr(c.p("f"), "user.a", nil)), unix.EACCES) })
		}},
		Case{"xattr", "of an open unlinked file", func(c *C) {
			c.file("f", "")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.ok("set", unix.Fsetxattr(fd, "user.a", []byte("v"), 0))
			n, err := unix.Fgetxattr(fd, "user.a", nil)
			c.ok("get", err)
			eq(c, "size", n, 1)
		}},
		Case{"xattr", "many on one file", func(c *C) {
			c.file("f", "")
			for i := range 50 {
				c.ok("set", unix.Setxattr(c.p("f"), fmt.Sprintf("user.%02d", i), []byte{byte(i)}, 0))
			}
			eq(c, "names", len(c.xattrNames("f")), 50)
			eq(c, "value", c.xattr("f", "user.33"), "\x21")
		}},
		Case{"xattr", "survive rename and link", func(c *C) {
			c.file("f", "")
			c.ok("set", unix.Setxattr(c.p("f"), "user.a", []byte("v"), 0))
			c.ok("rename", unix.Rename(c.p("f"), c.p("g")))
			c.ok("link", unix.Link(c.p("g"), c.p("h")))
			c.ok("unlink", unix.Unlink(c.p("g")))
			eq(c, "value", c.xattr("h", "user.a"), "v")
		}},
		Case{"xattr", "file capabilities are kept", func(c *C) {
			c.file("f", "")
			c.ok("set", unix.Setxattr(c.p("f"), "security.capability", capability(), 0))
			eq(c, "value", c.xattr("f", "security.capability"), string(capability()))
		}},
		dropsCapability("write", func(c *C) error {
			return withFile(c.p("f"), unix.O_WRONLY, func(fd int) error { return one(unix.Write(fd, []byte("x"))) })
		}),
		dropsCapability("truncate", func(c *C) error { return unix.Truncate(c.p("f"), 3) }),
		dropsCapability("open with O_TRUNC", func(c *C) error { return tryOpen(c.p("f"), unix.O_WRONLY|unix.O_TRUNC) }),
		dropsCapability("chown", func(c *C) error { return unix.Chown(c.p("f"), 1, 1) }),
		dropsCapability("fallocate", func(c *C) error {
			return withFile(c.p("f"), unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, 9000) })
		}),
	)
}

func dropsCapability(what string, do func(*C) error) Case {
	return Case{"xattr", "file capabilities go with " + what, func(c *C) {
		c.file("f", "content")
		c.ok("set", unix.Setxattr(c.p("f"), "security.capability", capability(), 0))
		c.ok(what, do(c))
		c.is("get", one(unix.Getxattr(c.p("f"), "security.capability", make([]byte, 100))), unix.ENODATA)
	}}
}

func (u user) name() string {
	switch u.uid {
	case 0:
		return "root"
	case alice.uid:
		return "alice"
	case bob.uid:
		return "bob"
	default:
		return "carol"
	}
}
