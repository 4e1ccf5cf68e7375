package posix

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// linkCases: hard links.
func linkCases() []Case {
	return []Case{
		{"link", "two names, one file", func(c *C) {
			c.file("f", "content")
			c.ok("link", unix.Link(c.p("f"), c.p("l")))
			eq(c, "inode", c.stat("l").Ino, c.stat("f").Ino)
			eq(c, "links", c.stat("f").Nlink, 2)
			c.ok("write", os.WriteFile(c.p("l"), []byte("changed"), 0o644))
			c.has("f", "changed")
			c.ok("chmod", unix.Chmod(c.p("f"), 0o600))
			c.mode("l", 0o600)
		}},
		{"link", "the first name may go", func(c *C) {
			c.file("f", "content")
			c.ok("link", unix.Link(c.p("f"), c.p("l")))
			c.ok("unlink", unix.Unlink(c.p("f")))
			eq(c, "links", c.stat("l").Nlink, 1)
			c.has("l", "content")
		}},
		{"link", "across directories", func(c *C) {
			c.mkdir("a", 0o755)
			c.mkdir("b", 0o755)
			c.file("a/f", "content")
			c.ok("link", unix.Link(c.p("a/f"), c.p("b/l")))
			c.ok("unlink", unix.Unlink(c.p("a/f")))
			c.ok("rmdir", unix.Rmdir(c.p("a")))
			c.has("b/l", "content")
		}},
		{"link", "many names, coming and going", func(c *C) {
			c.file("f", "content")
			for i := range 100 {
				c.ok("link", unix.Link(c.p("f"), c.p(fmt.Sprint("l", i))))
			}
			eq(c, "links", c.stat("f").Nlink, 101)
			c.ok("unlink", unix.Unlink(c.p("f")))
			for i := range 99 {
				c.ok("unlink", unix.Unlink(c.p(fmt.Sprint("l", (i*37)%100))))
			}
			left := c.names("")
			eq(c, "links", c.stat(left).Nlink, 1)
			c.has(left, "content")
		}},
		{"link", "to a name that exists", func(c *C) {
			c.file("f", "")
			c.file("g", "")
			c.is("link", unix.Link(c.p("f"), c.p("g")), unix.EEXIST)
			c.is("link to itself", unix.Link(c.p("f"), c.p("f")), unix.EEXIST)
		}},
		{"link", "of what is not there", func(c *C) { c.is("link", unix.Link(c.p("f"), c.p("g")), unix.ENOENT) }},
		{"link", "into a directory that is not there", func(c *C) {
			c.file("f", "")
			c.is("link", unix.Link(c.p("f"), c.p("d/g")), unix.ENOENT)
		}},
		{"link", "of a directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.is("link", unix.Link(c.p("d"), c.p("l")), unix.EPERM)
		}},
		{"link", "of a symbolic link is one to the link", func(c *C) {
			c.file("f", "content")
			c.symlink("f", "s")
			c.ok("link", unix.Link(c.p("s"), c.p("l")))
			eq(c, "inode", c.lstat("l").Ino, c.lstat("s").Ino)
			eq(c, "links", c.lstat("s").Nlink, 2)
		}},
		{"link", "AT_SYMLINK_FOLLOW goes through", func(c *C) {
			c.file("f", "content")
			c.symlink("f", "s")
			c.ok("linkat", unix.Linkat(unix.AT_FDCWD, c.p("s"), unix.AT_FDCWD, c.p("l"), unix.AT_SYMLINK_FOLLOW))
			eq(c, "inode", c.lstat("l").Ino, c.stat("f").Ino)
		}},
		{"link", "of a fifo", func(c *C) {
			c.fifo("p")
			c.ok("link", unix.Link(c.p("p"), c.p("l")))
			eq(c, "links", c.stat("p").Nlink, 2)
		}},
		{"link", "of an unlinked file", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.is("linkat", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, c.p("l"), unix.AT_SYMLINK_FOLLOW), unix.ENOENT)
		}},
		{"link", "needs write permission in the directory", func(c *C) {
			c.fileOf(alice, "f", 0o666, "")
			c.mkdir("d", 0o755)
			c.as(alice, func() { c.is("link", unix.Link(c.p("f"), c.p("d/l")), unix.EACCES) })
		}},
	}
}

// removeCases: unlink and rmdir.
func removeCases() []Case {
	return []Case{
		{"remove", "a file", func(c *C) {
			c.file("f", "")
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.absent("f")
		}},
		{"remove", "unlink of a directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.is("unlink", unix.Unlink(c.p("d")), unix.EISDIR)
		}},
		{"remove", "unlink of a symbolic link leaves its target", func(c *C) {
			c.file("f", "content")
			c.symlink("f", "l")
			c.ok("unlink", unix.Unlink(c.p("l")))
			c.has("f", "content")
		}},
		{"remove", "unlink of what is not there", func(c *C) { c.is("unlink", unix.Unlink(c.p("f")), unix.ENOENT) }},
		{"remove", "unlink below a file", func(c *C) {
			c.file("f", "")
			c.is("unlink", unix.Unlink(c.p("f/x")), unix.ENOTDIR)
		}},
		{"remove", "rmdir of a file", func(c *C) {
			c.file("f", "")
			c.is("rmdir", unix.Rmdir(c.p("f")), unix.ENOTDIR)
		}},
		{"remove", "rmdir of a symbolic link to a directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.symlink("d", "l")
			c.is("rmdir", unix.Rmdir(c.p("l")), unix.ENOTDIR)
		}},
		{"remove", "rmdir of a directory with something in it", func(c *C) {
			c.mkdir("d", 0o755)
			c.file("d/f", "")
			c.is("rmdir", unix.Rmdir(c.p("d")), unix.ENOTEMPTY)
			c.ok("unlink", unix.Unlink(c.p("d/f")))
			c.ok("rmdir", unix.Rmdir(c.p("d")))
			c.absent("d")
		}},
		{"remove", "rmdir of dot and of dot dot", func(c *C) {
			c.mkdir("d", 0o755)
			c.mkdir("d/e", 0o755)
			c.is("dot", unix.Rmdir(c.p("d/.")), unix.EINVAL)
			c.is("dot dot", unix.Rmdir(c.p("d/e/..")), unix.ENOTEMPTY)
		}},
		{"remove", "rmdir takes a link from the parent", func(c *C) {
			before := c.stat("").Nlink
			c.mkdir("d", 0o755)
			eq(c, "links", c.stat("").Nlink, before+1)
			c.ok("rmdir", unix.Rmdir(c.p("d")))
			eq(c, "links", c.stat("").Nlink, before)
		}},
		{"remove", "an unlinked open file goes on", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			eq(c, "links", c.fstat(fd).Nlink, 0)
			c.pwrite(fd, "C", 0)
			c.ok("ftruncate", unix.Ftruncate(fd, 4))
			c.same("content", c.pread(fd, 10, 0), "Cont")
			c.ok("fsync", unix.Fsync(fd))
			eq(c, "size", c.fstat(fd).Size, 4)
		}},
		{"remove", "the name can be used again at once", func(c *C) {
			c.file("f", "old")
			fd := c.open("f", unix.O_RDONLY, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.file("f", "new")
			c.same("the old file", c.pread(fd, 10, 0), "old")
			c.has("f", "new")
			c.that("another inode", c.fstat(fd).Ino != c.stat("f").Ino)
		}},
		{"remove", "a removed directory takes no new names", func(c *C) {
			c.mkdir("d", 0o755)
			fd := c.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			c.ok("rmdir", unix.Rmdir(c.p("d")))
			c.is("mkdirat", unix.Mkdirat(fd, "x", 0o755), unix.ENOENT)
			_, err := unix.Openat(fd, "x", unix.O_CREAT|unix.O_WRONLY, 0o644)
			c.is("openat", err, unix.ENOENT)
			eq(c, "links", c.fstat(fd).Nlink, 0)
		}},
		{"remove", "an open file of which the directory is gone", func(c *C) {
			c.mkdir("d", 0o755)
			c.file("d/f", "content")
			fd := c.open("d/f", unix.O_RDWR, 0)
			c.ok("unlink", unix.Unlink(c.p("d/f")))
			c.ok("rmdir", unix.Rmdir(c.p("d")))
			c.same("content", c.pread(fd, 10, 0), "content")
			c.pwrite(fd, "more", 7)
		}},
		{"remove", "a working directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.ok("chdir", unix.Chdir(c.p("d")))
			c.ok("rmdir", unix.Rmdir(c.p("d")))
			var st unix.Stat_t
			c.ok("stat", unix.Stat(".", &st))
			eq(c, "links", st.Nlink, 0)
			c.is("create", tryOpen("x", unix.O_CREAT|unix.O_WRONLY), unix.ENOENT)
		}},
	}
}

// symlinkCases: symbolic links.
func symlinkCases() []Case {
	return []Case{
		{"symlink", "size, mode and target", func(c *C) {
			c.symlink("some/target", "l")
			st := c.lstat("l")
			eq(c, "size", st.Size, int64(len("some/target")))
			eq(c, "type", st.Mode&unix.S_IFMT, uint32(unix.S_IFLNK))
			c.mode("l", 0o777)
			target, err := os.Readlink(c.p("l"))
			c.ok("readlink", err)
			eq(c, "target", target, "some/target")
		}},
		{"symlink", "longest target", func(c *C) {
			target := strings.Repeat("0123456789/", 372) + "abc"
			eq(c, "length", len(target), 4095)
			c.symlink(target, "l")
			got, err := os.Readlink(c.p("l"))
			c.ok("readlink", err)
			eq(c, "target", got, target)
			c.is("too long", unix.Symlink(target+"x", c.p("m")), unix.ENAMETOOLONG)
		}},
		{"symlink", "any bytes", func(c *C) {
			c.symlink("\xff\xfe \n'\"", "l")
			got, err := os.Readlink(c.p("l"))
			c.ok("readlink", err)
			eq(c, "target", got, "\xff\xfe \n'\"")
		}},
		{"symlink", "empty target", func(c *C) { c.is("symlink", unix.Symlink("", c.p("l")), unix.ENOENT) }},
		{"symlink", "name that exists", func(c *C) {
			c.file("f", "")
			c.is("symlink", unix.Symlink("x", c.p("f")), unix.EEXIST)
		}},
		{"symlink", "relative to where it lies", func(c *C) {
			c.mkdir("d", 0o755)
			c.file("d/f", "content")
			c.symlink("f", "d/l")
			c.has("d/l", "content")
			c.ok("rename", unix.Rename(c.p("d"), c.p("e")))
			c.has("e/l", "content")
		}},
		{"symlink", "loop", func(c *C) {
			c.symlink("b", "a")
			c.symlink("a", "b")
			c.is("open", tryOpen(c.p("a"), unix.O_RDONLY), unix.ELOOP)
			c.is("self", func() error {
				c.symlink("self", "self")
				return tryOpen(c.p("self"), unix.O_RDONLY)
			}(), unix.ELOOP)
		}},
		{"symlink", "chain of forty, and one too many", func(c *C) {
			c.file("l0", "content")
			for i := range 41 {
				c.symlink(fmt.Sprint("l", i), fmt.Sprint("l", i+1))
			}
			c.has("l40", "content")
			c.is("open", tryOpen(c.p("l41"), unix.O_RDONLY), unix.ELOOP)
		}},
		{"symlink", "dangling", func(c *C) {
			c.symlink("nowhere", "l")
			c.is("open", tryOpen(c.p("l"), unix.O_RDONLY), unix.ENOENT)
			c.is("create new", tryOpen(c.p("l"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY), unix.EEXIST)
			c.ok("create through it", tryOpen(c.p("l"), unix.O_CREAT|unix.O_WRONLY))
			c.has("nowhere", "")
		}},
		{"symlink", "readlink of anything else", func(c *C) {
			c.file("f", "")
			_, err := os.Readlink(c.p("f"))
			c.is("readlink", err, unix.EINVAL)
		}},
		{"symlink", "belongs to who made it", func(c *C) {
			c.ok("chmod", unix.Chmod(c.dir, 0o777))
			c.as(alice, func() { c.symlink("x", "l") })
			eq(c, "owner", c.lstat("l").Uid, uint32(alice.uid))
		}},
		{"symlink", "replaced by another of the same name", func(c *C) {
			c.file("f", "one")
			c.file("g", "two")
			c.symlink("f", "l")
			c.has("l", "one")
			c.ok("unlink", unix.Unlink(c.p("l")))
			c.symlink("g", "l")
			c.has("l", "two")
		}},
	}
}

// nameCases: which names are possible.
func nameCases() (cases []Case) {
	long := strings.Repeat("n", 255)
	for _, op := range []struct {
		name string
		do   func(c *C, name string) error
	}{
		{"create", func(c *C, n string) error { return tryOpen(c.p(n), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY) }},
		{"mkdir", func(c *C, n string) error { return unix.Mkdir(c.p(n), 0o755) }},
		{"mknod", func(c *C, n string) error { return unix.Mkfifo(c.p(n), 0o644) }},
		{"symlink", func(c *C, n string) error { return unix.Symlink("x", c.p(n)) }},
		{"link", func(c *C, n string) error {
			c.file("f", "")
			return unix.Link(c.p("f"), c.p(n))
		}},
		{"rename", func(c *C, n string) error {
			c.file("f", "")
			return unix.Rename(c.p("f"), c.p(n))
		}},
	} {
		cases = append(cases, Case{"names", op.name + " with 255 bytes", func(c *C) {
			c.ok(op.name, op.do(c, long))
			c.that("it is listed", strings.Contains(c.names(""), long))
			c.lstat(long)
		}}, Case{"names", op.name + " with 256 bytes", func(c *C) {
			c.is(op.name, op.do(c, long+"n"), unix.ENAMETOOLONG)
		}})
	}
	return append(cases,
		Case{"names", "looking up 256 bytes", func(c *C) {
			var st unix.Stat_t
			c.is("stat", unix.Stat(c.p(long+"n"), &st), unix.ENAMETOOLONG)
			c.is("unlink", unix.Unlink(c.p(long+"n")), unix.ENAMETOOLONG)
		}},
		Case{"names", "every byte but slash and NUL", func(c *C) {
			for b := 1; b < 256; b++ {
				if b == '/' || b == '.' {
					continue
				}
				name := string([]byte{byte(b)})
				c.ok("create", os.WriteFile(c.p(name), []byte{byte(b)}, 0o644))
			}
			for b := 1; b < 256; b++ {
				if b != '/' && b != '.' {
					c.has(string([]byte{byte(b)}), string([]byte{byte(b)}))
				}
			}
		}},
		Case{"names", "dots that are names", func(c *C) {
			for _, name := range []string{"...", "..a", ".a", "a.", "a..", ". ", " ."} {
				c.file(name, name)
			}
			c.has("...", "...")
			c.has(" .", " .")
		}},
		Case{"names", "are told apart by case and by normalisation", func(c *C) {
			c.file("a", "lower")
			c.file("A", "upper")
			c.file("\u00e9", "composed")
			c.file("e\u0301", "decomposed")
			c.has("a", "lower")
			c.has("A", "upper")
			c.has("\u00e9", "composed")
		}},
		Case{"names", "a missing name is seen when it appears", func(c *C) {
			c.absent("f")
			c.file("f", "content")
			c.has("f", "content")
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.absent("f")
			c.mkdir("f", 0o755)
			c.ok("open", tryOpen(c.p("f"), unix.O_RDONLY|unix.O_DIRECTORY))
		}},
		Case{"names", "deep tree, worked on from within", func(c *C) {
			const depth = 300
			c.ok("chdir", unix.Chdir(c.dir))
			for range depth {
				c.ok("mkdir", unix.Mkdir("directory-with-a-name", 0o755))
				c.ok("chdir", unix.Chdir("directory-with-a-name"))
			}
			c.ok("create", tryOpen("f", unix.O_CREAT|unix.O_WRONLY))
			for range depth {
				c.ok("chdir", unix.Chdir(".."))
				c.ok("rename", unix.Rename("directory-with-a-name", "d"))
			}
		}},
		Case{"names", "path of 4095 bytes, not 4096", func(c *C) {
			c.ok("chdir", unix.Chdir(c.dir))
			path := strings.Repeat("./", 2047)
			c.file("a", "content")
			c.ok("open", tryOpen(path+"a", unix.O_RDONLY))
			c.is("open", tryOpen(path+"./a", unix.O_RDONLY), unix.ENAMETOOLONG)
		}},
		Case{"names", "trailing slash", func(c *C) {
			c.file("f", "")
			c.mkdir("d", 0o755)
			var st unix.Stat_t
			c.is("stat of a file", unix.Stat(c.p("f/"), &st), unix.ENOTDIR)
			c.ok("stat of a directory", unix.Stat(c.p("d/"), &st))
			c.is("create", tryOpen(c.p("g/"), unix.O_CREAT|unix.O_WRONLY), unix.EISDIR)
			c.ok("mkdir", unix.Mkdir(c.p("e/"), 0o755))
		}},
		Case{"names", "dot dot leads up, after a rename too", func(c *C) {
			c.mkdir("a", 0o755)
			c.mkdir("b", 0o755)
			c.mkdir("a/d", 0o755)
			eq(c, "parent", c.stat("a/d/..").Ino, c.stat("a").Ino)
			c.ok("rename", unix.Rename(c.p("a/d"), c.p("b/d")))
			eq(c, "parent", c.stat("b/d/..").Ino, c.stat("b").Ino)
		}},
	)
}
