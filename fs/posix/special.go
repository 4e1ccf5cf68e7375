package posix

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tmpfileCases: O_TMPFILE.
func tmpfileCases() []Case {
	named := func(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
	linkAt := func(c *C, fd int, rel string) error {
		return unix.Linkat(unix.AT_FDCWD, named(fd), unix.AT_FDCWD, c.p(rel), unix.AT_SYMLINK_FOLLOW)
	}
	return []Case{
		{"tmpfile", "has no name and no links", func(c *C) {
			fd := c.open("", unix.O_TMPFILE|unix.O_RDWR, 0o640)
			c.write(fd, "content")
			st := c.fstat(fd)
			eq(c, "links", st.Nlink, 0)
			eq(c, "size", st.Size, 7)
			eq(c, "mode", st.Mode&0o7777, 0o640)
			eq(c, "names", c.names(""), "")
			c.same("content", c.pread(fd, 10, 0), "content")
		}},
		{"tmpfile", "can be given a name", func(c *C) {
			fd := c.open("", unix.O_TMPFILE|unix.O_RDWR, 0o640)
			c.write(fd, "content")
			c.ok("linkat", linkAt(c, fd, "f"))
			eq(c, "links", c.fstat(fd).Nlink, 1)
			eq(c, "inode", c.stat("f").Ino, c.fstat(fd).Ino)
			c.write(fd, " more")
			c.close(fd)
			c.has("f", "content more")
			c.mode("f", 0o640)
		}},
		{"tmpfile", "can be given two names, and lose them", func(c *C) {
			fd := c.open("", unix.O_TMPFILE|unix.O_RDWR, 0o640)
			c.ok("linkat", linkAt(c, fd, "f"))
			c.ok("linkat", linkAt(c, fd, "g"))
			eq(c, "links", c.fstat(fd).Nlink, 2)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.ok("unlink", unix.Unlink(c.p("g")))
			eq(c, "links", c.fstat(fd).Nlink, 0)
			c.write(fd, "content")
		}},
		{"tmpfile", "with O_EXCL cannot", func(c *C) {
			fd := c.open("", unix.O_TMPFILE|unix.O_EXCL|unix.O_RDWR, 0o640)
			c.is("linkat", linkAt(c, fd, "f"), unix.ENOENT)
		}},
		{"tmpfile", "needs writing", func(c *C) {
			c.is("open", tryOpen(c.dir, unix.O_TMPFILE|unix.O_RDONLY), unix.EINVAL)
		}},
		{"tmpfile", "needs a directory that the caller may write", func(c *C) {
			c.as(alice, func() { c.is("open", tryOpen(c.dir, unix.O_TMPFILE|unix.O_RDWR), unix.EACCES) })
			c.file("f", "")
			c.is("open", tryOpen(c.p("f"), unix.O_TMPFILE|unix.O_RDWR), unix.ENOTDIR)
		}},
		{"tmpfile", "umask", func(c *C) {
			unix.Umask(0o027)
			eq(c, "mode", c.fstat(c.open("", unix.O_TMPFILE|unix.O_RDWR, 0o666)).Mode&0o777, 0o640)
		}},
		{"tmpfile", "a name that exists", func(c *C) {
			c.file("f", "")
			c.is("linkat", linkAt(c, c.open("", unix.O_TMPFILE|unix.O_RDWR, 0o640), "f"), unix.EEXIST)
		}},
	}
}

// specialCases: fifos, sockets, device nodes.
func specialCases() (cases []Case) {
	for _, k := range []struct {
		name string
		mode uint32
		dev  uint64
	}{
		{"fifo", unix.S_IFIFO, 0}, {"socket", unix.S_IFSOCK, 0}, {"character device", unix.S_IFCHR, unix.Mkdev(1, 3)},
		{"block device", unix.S_IFBLK, unix.Mkdev(7, 200)}, {"device with large numbers", unix.S_IFCHR, unix.Mkdev(4000, 1_000_000)}, {"regular file", unix.S_IFREG, 0},
	} {
		cases = append(cases, Case{"special", "mknod of a " + k.name, func(c *C) {
			c.ok("mknod", unix.Mknod(c.p("x"), k.mode|0o640, int(k.dev)))
			st := c.lstat("x")
			eq(c, "type", st.Mode&unix.S_IFMT, k.mode)
			eq(c, "device", st.Rdev, k.dev)
			c.mode("x", 0o640)
			eq(c, "links", st.Nlink, 1)
			c.is("again", unix.Mknod(c.p("x"), k.mode|0o640, int(k.dev)), unix.EEXIST)
			c.ok("rename", unix.Rename(c.p("x"), c.p("y")))
			c.ok("unlink", unix.Unlink(c.p("y")))
		}})
		if k.dev != 0 {
			cases = append(cases, Case{"special", "mknod of a " + k.name + " by a user", func(c *C) {
				c.ok("chmod", unix.Chmod(c.dir, 0o777))
				c.as(alice, func() { c.is("mknod", unix.Mknod(c.p("x"), k.mode|0o640, int(k.dev)), unix.EPERM) })
			}})
		}
	}
	return append(cases,
		Case{"special", "a fifo passes bytes", func(c *C) {
			c.fifo("p")
			r := c.open("p", unix.O_RDONLY|unix.O_NONBLOCK, 0)
			w := c.open("p", unix.O_WRONLY|unix.O_NONBLOCK, 0)
			c.write(w, "through")
			buf := make([]byte, 10)
			n, err := unix.Read(r, buf)
			c.ok("read", err)
			c.same("content", buf[:n], "through")
			eq(c, "size", c.stat("p").Size, 0)
		}},
		Case{"special", "a fifo without a reader", func(c *C) {
			c.fifo("p")
			c.is("open", tryOpen(c.p("p"), unix.O_WRONLY|unix.O_NONBLOCK), unix.ENXIO)
		}},
		Case{"special", "a socket cannot be opened", func(c *C) {
			c.ok("mknod", unix.Mknod(c.p("s"), unix.S_IFSOCK|0o644, 0))
			c.is("open", tryOpen(c.p("s"), unix.O_RDONLY), unix.ENXIO)
		}},
		Case{"special", "a socket connects by its name", func(c *C) {
			c.ok("chdir", unix.Chdir(c.dir)) // the path of a socket is short
			l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			c.ok("socket", err)
			c.fds[l] = true
			c.ok("bind", unix.Bind(l, &unix.SockaddrUnix{Name: "s"}))
			eq(c, "type", c.lstat("s").Mode&unix.S_IFMT, uint32(unix.S_IFSOCK))
			c.ok("listen", unix.Listen(l, 1))
			f, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			c.ok("socket", err)
			c.fds[f] = true
			c.ok("connect", unix.Connect(f, &unix.SockaddrUnix{Name: "s"}))
			c.is("bind again", unix.Bind(f, &unix.SockaddrUnix{Name: "s"}), unix.EADDRINUSE)
			c.ok("unlink", os.Remove(c.p("s")))
		}},
	)
}

// statCases: what stat(2), statx(2) and statfs(2) say.
func statCases() []Case {
	return []Case{
		{"stat", "a new file", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o640)
			st := c.fstat(fd)
			eq(c, "size", st.Size, 0)
			eq(c, "blocks", st.Blocks, 0)
			eq(c, "links", st.Nlink, 1)
			eq(c, "mode", st.Mode, uint32(unix.S_IFREG|0o640))
			eq(c, "device", st.Dev, c.stat("").Dev)
		}},
		{"stat", "size while it is being written", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			for i := 1; i <= 20; i++ {
				c.write(fd, fill('x', 777))
				eq(c, "size", c.stat("f").Size, int64(i)*777)
			}
		}},
		{"stat", "a new directory", func(c *C) {
			c.ok("mkdir", unix.Mkdir(c.p("d"), 0o750))
			st := c.stat("d")
			eq(c, "links", st.Nlink, 2)
			eq(c, "mode", st.Mode, uint32(unix.S_IFDIR|0o750))
		}},
		{"stat", "links of a directory count its directories", func(c *C) {
			c.mkdir("d", 0o755)
			for i := range 10 {
				c.mkdir(fmt.Sprint("d/", i), 0o755)
				c.file(fmt.Sprint("d/f", i), "")
			}
			eq(c, "links", c.stat("d").Nlink, 12)
		}},
		{"stat", "inodes are told apart", func(c *C) {
			seen := map[uint64]bool{}
			for i := range 100 {
				c.file(fmt.Sprint("f", i), "")
				seen[c.stat(fmt.Sprint("f", i)).Ino] = true
			}
			eq(c, "inodes", len(seen), 100)
		}},
		{"stat", "blocks after closing", func(c *C) {
			c.file("f", fill('x', 100_000))
			fd := c.open("f", unix.O_RDONLY, 0)
			c.ok("fsync", unix.Fsync(fd))
			blocks := c.stat("f").Blocks
			c.that("they hold the content, and not much more", blocks >= 195 && blocks <= 300)
		}},
		{"stat", "blocks of a file that is being written", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(fd, fill('x', 100_000))
			c.that("there are some", c.stat("f").Blocks > 0)
		}},
		{"stat", "a small file with content has blocks", func(c *C) {
			c.file("f", "x")
			fd := c.open("f", unix.O_RDONLY, 0)
			c.ok("fsync", unix.Fsync(fd))
			c.that("there are some", c.stat("f").Blocks > 0)
		}},
		{"stat", "blocks of a hole", func(c *C) {
			c.file("f", "")
			c.ok("truncate", unix.Truncate(c.p("f"), 100<<20))
			c.that("nearly none", c.stat("f").Blocks < 100)
		}},
		{"stat", "statx agrees with stat", func(c *C) {
			c.file("f", fill('x', 5000))
			st := c.stat("f")
			var sx unix.Statx_t
			c.ok("statx", unix.Statx(unix.AT_FDCWD, c.p("f"), 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx))
			eq(c, "inode", sx.Ino, st.Ino)
			eq(c, "size", int64(sx.Size), st.Size)
			eq(c, "mode", uint32(sx.Mode), st.Mode)
			eq(c, "mtime", sx.Mtime.Sec*1e9+int64(sx.Mtime.Nsec), ns(st.Mtim))
			eq(c, "links", sx.Nlink, uint32(st.Nlink))
			eq(c, "blocks", int64(sx.Blocks), st.Blocks)
		}},
		{"stat", "statx of a device", func(c *C) {
			c.ok("mknod", unix.Mknod(c.p("x"), unix.S_IFCHR|0o640, int(unix.Mkdev(300, 70_000))))
			var sx unix.Statx_t
			c.ok("statx", unix.Statx(unix.AT_FDCWD, c.p("x"), 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx))
			eq(c, "major", sx.Rdev_major, 300)
			eq(c, "minor", sx.Rdev_minor, 70_000)
		}},
		{"stat", "statfs", func(c *C) {
			var st unix.Statfs_t
			c.ok("statfs", unix.Statfs(c.dir, &st))
			eq(c, "longest name", st.Namelen, 255)
			c.that("there is space", st.Bavail > 0 && st.Bavail <= st.Bfree && st.Bfree <= st.Blocks && st.Bsize >= 512)
		}},
	}
}

// syncCases: fsync(2) and its like on everything.
func syncCases() []Case {
	return []Case{
		{"sync", "a file, written and not", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.ok("fsync", unix.Fsync(fd))
			c.write(fd, fill('x', 100_000))
			c.ok("fsync", unix.Fsync(fd))
			c.ok("fdatasync", unix.Fdatasync(fd))
			c.ok("fsync", unix.Fsync(fd))
		}},
		{"sync", "a descriptor for reading", func(c *C) {
			c.file("f", "content")
			c.ok("fsync", unix.Fsync(c.open("f", unix.O_RDONLY, 0)))
		}},
		{"sync", "a directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.file("d/f", "")
			fd := c.open("d", unix.O_RDONLY, 0)
			c.ok("fsync", unix.Fsync(fd))
			c.ok("fdatasync", unix.Fdatasync(fd))
		}},
		{"sync", "an unlinked file", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.write(fd, "x")
			c.ok("fsync", unix.Fsync(fd))
		}},
		{"sync", "syncfs and sync_file_range", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(fd, fill('x', 100_000))
			c.ok("sync_file_range", unix.SyncFileRange(fd, 0, 100_000, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER))
			c.ok("syncfs", unix.Syncfs(fd))
		}},
		{"sync", "O_SYNC and O_DSYNC writes", func(c *C) {
			for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC} {
				fd := c.open("f", unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR|flag, 0o644)
				c.write(fd, "content")
				c.has("f", "content")
			}
		}},
		{"sync", "a fifo", func(c *C) {
			c.fifo("p")
			c.is("fsync", unix.Fsync(c.open("p", unix.O_RDONLY|unix.O_NONBLOCK, 0)), unix.EINVAL)
		}},
	}
}
