package posix

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// object makes something of a kind under a name.
type object struct {
	name string
	make func(c *C, rel string)
	dir  bool
}

func objects() []object {
	return []object{
		{"file", func(c *C, rel string) { c.file(rel, "content of "+rel) }, false},
		{"directory", func(c *C, rel string) { c.mkdir(rel, 0o755) }, true},
		{"full directory", func(c *C, rel string) {
			c.mkdir(rel, 0o755)
			c.file(rel+"/inside", "content")
		}, true},
		{"symlink", func(c *C, rel string) { c.symlink("target of "+rel, rel) }, false},
		{"fifo", func(c *C, rel string) { c.fifo(rel) }, false},
	}
}

// renameCases: rename(2) of everything over everything, and its limits.
func renameCases() (cases []Case) {
	for _, from := range objects() {
		cases = append(cases, Case{"rename", from.name + " to a new name", func(c *C) {
			from.make(c, "a")
			before := c.lstat("a")
			c.ok("rename", unix.Rename(c.p("a"), c.p("b")))
			c.absent("a")
			eq(c, "inode", c.lstat("b").Ino, before.Ino)
			eq(c, "links", c.lstat("b").Nlink, before.Nlink)
		}}, Case{"rename", from.name + " to another directory", func(c *C) {
			c.mkdir("x", 0o755)
			c.mkdir("y", 0o755)
			from.make(c, "x/a")
			before := c.lstat("x/a")
			c.ok("rename", unix.Rename(c.p("x/a"), c.p("y/b")))
			eq(c, "inode", c.lstat("y/b").Ino, before.Ino)
			eq(c, "names", c.names("x")+"|"+c.names("y"), "|b")
		}})
		for _, to := range objects() {
			var want unix.Errno
			switch {
			case from.dir && !to.dir:
				want = unix.ENOTDIR
			case !from.dir && to.dir:
				want = unix.EISDIR
			case to.name == "full directory":
				want = unix.ENOTEMPTY
			}
			cases = append(cases, Case{"rename", from.name + " over " + to.name, func(c *C) {
				from.make(c, "a")
				to.make(c, "b")
				a, b := c.lstat("a"), c.lstat("b")
				c.is("rename", unix.Rename(c.p("a"), c.p("b")), want)
				if want == 0 {
					c.absent("a")
					eq(c, "inode", c.lstat("b").Ino, a.Ino)
				} else {
					eq(c, "inode", c.lstat("a").Ino, a.Ino)
					eq(c, "inode", c.lstat("b").Ino, b.Ino)
				}
			}})
		}
	}
	return append(cases, moreRenameCases()...)
}

func moreRenameCases() []Case {
	return []Case{
		{"rename", "to itself", func(c *C) {
			c.file("f", "content")
			c.ok("rename", unix.Rename(c.p("f"), c.p("f")))
			c.has("f", "content")
		}},
		{"rename", "one name of a file over another leaves both", func(c *C) {
			c.file("f", "content")
			c.ok("link", unix.Link(c.p("f"), c.p("l")))
			c.ok("rename", unix.Rename(c.p("f"), c.p("l")))
			eq(c, "names", c.names(""), "f l")
		}},
		{"rename", "of what is not there", func(c *C) { c.is("rename", unix.Rename(c.p("a"), c.p("b")), unix.ENOENT) }},
		{"rename", "into a directory that is not there", func(c *C) {
			c.file("f", "")
			c.is("rename", unix.Rename(c.p("f"), c.p("d/f")), unix.ENOENT)
		}},
		{"rename", "below a file", func(c *C) {
			c.file("f", "")
			c.file("g", "")
			c.is("rename", unix.Rename(c.p("f"), c.p("g/x")), unix.ENOTDIR)
		}},
		{"rename", "of a directory into itself", func(c *C) {
			c.mkdir("d", 0o755)
			c.mkdir("d/e", 0o755)
			c.is("child", unix.Rename(c.p("d"), c.p("d/x")), unix.EINVAL)
			c.is("grandchild", unix.Rename(c.p("d"), c.p("d/e/x")), unix.EINVAL)
		}},
		{"rename", "over a directory that holds it", func(c *C) {
			c.mkdir("d", 0o755)
			c.mkdir("d/e", 0o755)
			c.is("rename", unix.Rename(c.p("d/e"), c.p("d")), unix.ENOTEMPTY)
		}},
		{"rename", "dot and dot dot", func(c *C) {
			c.mkdir("d", 0o755)
			c.anyOf("dot", unix.Rename(c.p("d/."), c.p("x")), unix.EBUSY, unix.EINVAL)
			c.anyOf("dot dot", unix.Rename(c.p("d/.."), c.p("x")), unix.EBUSY, unix.EINVAL)
			c.anyOf("to dot", unix.Rename(c.p("d"), c.p("d/.")), unix.EBUSY, unix.EINVAL)
		}},
		{"rename", "over an open file leaves that to who holds it", func(c *C) {
			c.file("old", "old content")
			c.file("new", "new content")
			fd := c.open("old", unix.O_RDWR, 0)
			c.ok("rename", unix.Rename(c.p("new"), c.p("old")))
			c.same("the open file", c.pread(fd, 100, 0), "old content")
			eq(c, "links", c.fstat(fd).Nlink, 0)
			c.pwrite(fd, "OLD", 0)
			c.has("old", "new content")
		}},
		{"rename", "an open file goes on under its new name", func(c *C) {
			c.file("a", "content")
			fd := c.open("a", unix.O_RDWR, 0)
			c.ok("rename", unix.Rename(c.p("a"), c.p("b")))
			c.pwrite(fd, "CON", 0)
			c.has("b", "CONtent")
			c.ok("rename", unix.Rename(c.p("b"), c.p("c")))
			c.has("c", "CONtent")
		}},
		{"rename", "over an open directory", func(c *C) {
			c.mkdir("a", 0o755)
			c.mkdir("b", 0o755)
			fd := c.open("b", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			c.ok("rename", unix.Rename(c.p("a"), c.p("b")))
			eq(c, "links", c.fstat(fd).Nlink, 0)
		}},
		{"rename", "a directory counts in its new parent", func(c *C) {
			c.mkdir("x", 0o755)
			c.mkdir("y", 0o755)
			c.mkdir("x/d", 0o755)
			c.ok("rename", unix.Rename(c.p("x/d"), c.p("y/d")))
			eq(c, "links of the old parent", c.stat("x").Nlink, 2)
			eq(c, "links of the new parent", c.stat("y").Nlink, 3)
		}},
		{"rename", "a directory with a tree below", func(c *C) {
			c.mkdir("d", 0o755)
			c.mkdir("d/e", 0o755)
			c.file("d/e/f", "content")
			c.mkdir("x", 0o755)
			c.ok("rename", unix.Rename(c.p("d"), c.p("x/y")))
			c.has("x/y/e/f", "content")
			c.absent("d")
		}},
		{"rename", "of a directory of another needs write permission in it", func(c *C) {
			c.dirOf(alice, "x", 0o777)
			c.dirOf(alice, "y", 0o777)
			c.dirOf(alice, "x/d", 0o755)
			c.as(bob, func() { c.is("rename", unix.Rename(c.p("x/d"), c.p("y/d")), unix.EACCES) })
			c.ok("chmod", unix.Chmod(c.p("x/d"), 0o777))
			c.as(bob, func() { c.ok("rename", unix.Rename(c.p("x/d"), c.p("y/d"))) })
		}},
		{"rename", "back and forth many times", func(c *C) {
			c.mkdir("x", 0o755)
			c.file("f", "content")
			for i := range 100 {
				from, to := c.p("f"), c.p("x/g")
				if i%2 == 1 {
					from, to = to, from
				}
				c.ok("rename", unix.Rename(from, to))
			}
			c.has("f", "content")
		}},
		{"rename", "the new version is seen by name at once", func(c *C) {
			c.file("f", "version 0")
			for i := range 20 {
				c.ok("write", os.WriteFile(c.p("tmp"), []byte(fmt.Sprint("version ", i+1)), 0o644))
				c.ok("rename", unix.Rename(c.p("tmp"), c.p("f")))
				c.has("f", fmt.Sprint("version ", i+1))
			}
		}},
	}
}

// renameFlagCases: renameat2(2).
func renameFlagCases() (cases []Case) {
	rename2 := func(c *C, from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, c.p(from), unix.AT_FDCWD, c.p(to), flags)
	}
	for _, from := range objects() {
		cases = append(cases, Case{"renameat2", "NOREPLACE, " + from.name + " to a new name", func(c *C) {
			from.make(c, "a")
			c.ok("rename", rename2(c, "a", "b", unix.RENAME_NOREPLACE))
			c.absent("a")
			c.lstat("b")
		}}, Case{"renameat2", "NOREPLACE, " + from.name + " over a file", func(c *C) {
			from.make(c, "a")
			c.file("b", "content")
			c.is("rename", rename2(c, "a", "b", unix.RENAME_NOREPLACE), unix.EEXIST)
			c.lstat("a")
			c.has("b", "content")
		}})
		for _, to := range objects() {
			cases = append(cases, Case{"renameat2", "EXCHANGE, " + from.name + " and " + to.name, func(c *C) {
				c.mkdir("x", 0o755)
				c.mkdir("y", 0o755)
				from.make(c, "x/a")
				to.make(c, "y/b")
				a, b := c.lstat("x/a"), c.lstat("y/b")
				c.ok("rename", rename2(c, "x/a", "y/b", unix.RENAME_EXCHANGE))
				eq(c, "inode", c.lstat("x/a").Ino, b.Ino)
				eq(c, "inode", c.lstat("y/b").Ino, a.Ino)
				links := func(dir bool) uint64 { return map[bool]uint64{true: 3, false: 2}[dir] }
				eq(c, "links of x", uint64(c.stat("x").Nlink), links(to.dir))
				eq(c, "links of y", uint64(c.stat("y").Nlink), links(from.dir))
			}})
		}
	}
	return append(cases,
		Case{"renameat2", "EXCHANGE with what is not there", func(c *C) {
			c.file("a", "")
			c.is("rename", rename2(c, "a", "b", unix.RENAME_EXCHANGE), unix.ENOENT)
		}},
		Case{"renameat2", "EXCHANGE of a directory with its own child", func(c *C) {
			c.mkdir("d", 0o755)
			c.mkdir("d/e", 0o755)
			c.is("one way", rename2(c, "d", "d/e", unix.RENAME_EXCHANGE), unix.EINVAL)
			c.is("the other", rename2(c, "d/e", "d", unix.RENAME_EXCHANGE), unix.EINVAL)
		}},
		Case{"renameat2", "EXCHANGE changes dot dot", func(c *C) {
			c.mkdir("x", 0o755)
			c.mkdir("y", 0o755)
			c.mkdir("x/a", 0o755)
			c.file("y/b", "content")
			c.ok("rename", rename2(c, "x/a", "y/b", unix.RENAME_EXCHANGE))
			eq(c, "parent", c.stat("y/b/..").Ino, c.stat("y").Ino)
			c.has("x/a", "content")
		}},
		Case{"renameat2", "WHITEOUT leaves a device", func(c *C) {
			c.file("a", "content")
			c.ok("rename", rename2(c, "a", "b", unix.RENAME_WHITEOUT))
			c.has("b", "content")
			st := c.lstat("a")
			eq(c, "type", st.Mode&unix.S_IFMT, uint32(unix.S_IFCHR))
			eq(c, "device", st.Rdev, 0)
		}},
		Case{"renameat2", "WHITEOUT over a file", func(c *C) {
			c.file("a", "new")
			c.file("b", "old")
			c.ok("rename", rename2(c, "a", "b", unix.RENAME_WHITEOUT))
			c.has("b", "new")
			eq(c, "type", c.lstat("a").Mode&unix.S_IFMT, uint32(unix.S_IFCHR))
		}},
		Case{"renameat2", "flags that exclude each other, or do not exist", func(c *C) {
			c.file("a", "")
			c.file("b", "")
			c.is("both", rename2(c, "a", "b", unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE), unix.EINVAL)
			c.is("whiteout", rename2(c, "a", "b", unix.RENAME_WHITEOUT|unix.RENAME_EXCHANGE), unix.EINVAL)
			c.is("unknown", rename2(c, "a", "b", 1<<5), unix.EINVAL)
		}},
		Case{"renameat2", "NOREPLACE of one name over another of the same file", func(c *C) {
			c.file("a", "")
			c.ok("link", unix.Link(c.p("a"), c.p("b")))
			c.is("rename", rename2(c, "a", "b", unix.RENAME_NOREPLACE), unix.EEXIST)
		}},
	)
}
