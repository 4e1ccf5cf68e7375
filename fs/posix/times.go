package posix

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// timeSet is which times of an inode a case expects to move.
type timeSet struct{ atime, mtime, ctime bool }

// moved compares two stats.
func moved(before, after unix.Stat_t) timeSet {
	return timeSet{ns(after.Atim) > ns(before.Atim), ns(after.Mtim) > ns(before.Mtim), ns(after.Ctim) > ns(before.Ctim)}
}

// timeCases: which operation moves which time of the file and of its directory.
func timeCases() (cases []Case) {
	const dir = "d"
	var (
		none    = timeSet{}
		ctime   = timeSet{ctime: true}
		changed = timeSet{mtime: true, ctime: true}
		read    = timeSet{atime: true}
	)
	for _, op := range []struct {
		name      string
		do        func(c *C) error
		file, dir timeSet
	}{
		{"write", func(c *C) error {
			return withFile(c.p("d/f"), unix.O_WRONLY, func(fd int) error { return one(unix.Write(fd, []byte("x"))) })
		}, changed, none},
		{"write of nothing", func(c *C) error {
			return withFile(c.p("d/f"), unix.O_WRONLY, func(fd int) error { return one(unix.Write(fd, nil)) })
		}, none, none},
		{"read", func(c *C) error { return one(os.ReadFile(c.p("d/f"))) }, read, none},
		{"open and close", func(c *C) error { return tryOpen(c.p("d/f"), unix.O_RDONLY) }, none, none},
		{"open with O_NOATIME and read", func(c *C) error {
			return withFile(c.p("d/f"), unix.O_RDONLY|unix.O_NOATIME, func(fd int) error { return one(unix.Read(fd, make([]byte, 10))) })
		}, none, none},
		{"truncate to another size", func(c *C) error { return unix.Truncate(c.p("d/f"), 3) }, changed, none},
		{"truncate to the same size", func(c *C) error { return unix.Truncate(c.p("d/f"), 7) }, changed, none},
		{"open with O_TRUNC", func(c *C) error { return tryOpen(c.p("d/f"), unix.O_WRONLY|unix.O_TRUNC) }, changed, none},
		{"fallocate", func(c *C) error {
			return withFile(c.p("d/f"), unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, 10000) })
		}, changed, none},
		{"punch", func(c *C) error {
			return withFile(c.p("d/f"), unix.O_RDWR, func(fd int) error {
				return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 3)
			})
		}, changed, none},
		{"chmod", func(c *C) error { return unix.Chmod(c.p("d/f"), 0o600) }, ctime, none},
		{"chmod to the same mode", func(c *C) error { return unix.Chmod(c.p("d/f"), 0o644) }, ctime, none},
		{"chown", func(c *C) error { return unix.Chown(c.p("d/f"), 1, 1) }, ctime, none},
		{"setxattr", func(c *C) error { return unix.Setxattr(c.p("d/f"), "user.x", []byte("y"), 0) }, ctime, none},
		{"link", func(c *C) error { return unix.Link(c.p("d/f"), c.p("d/l")) }, ctime, changed},
		{"link elsewhere", func(c *C) error { return unix.Link(c.p("d/f"), c.p("l")) }, ctime, none},
		{"create in the directory", func(c *C) error { return tryOpen(c.p("d/g"), unix.O_CREAT|unix.O_WRONLY) }, none, changed},
		{"mkdir in the directory", func(c *C) error { return unix.Mkdir(c.p("d/g"), 0o755) }, none, changed},
		{"symlink in the directory", func(c *C) error { return unix.Symlink("x", c.p("d/g")) }, none, changed},
		{"mknod in the directory", func(c *C) error { return unix.Mkfifo(c.p("d/g"), 0o644) }, none, changed},
		{"unlink in the directory", func(c *C) error { return unix.Unlink(c.p("d/other")) }, none, changed},
		{"rmdir in the directory", func(c *C) error { return unix.Rmdir(c.p("d/sub")) }, none, changed},
		{"rename within the directory", func(c *C) error { return unix.Rename(c.p("d/other"), c.p("d/g")) }, none, changed},
		{"rename into the directory", func(c *C) error { return unix.Rename(c.p("outside"), c.p("d/g")) }, none, changed},
		{"rename out of the directory", func(c *C) error { return unix.Rename(c.p("d/other"), c.p("g")) }, none, changed},
		{"list the directory", func(c *C) error { return one(os.ReadDir(c.p("d"))) }, none, read},
		{"stat and lookup", func(c *C) error { return unix.Access(c.p("d/f"), unix.R_OK) }, none, none},
		{"a failed create", func(c *C) error {
			if err := tryOpen(c.p("d/f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY); err != unix.EEXIST {
				return fmt.Errorf("create: %v", err)
			}
			return nil
		}, none, none},
		{"mmap, write and msync", func(c *C) error {
			return withFile(c.p("d/f"), unix.O_RDWR, func(fd int) error {
				mem, err := unix.Mmap(fd, 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
				if err != nil {
					return err
				}
				mem[0] = 'X'
				if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
					return err
				}
				return unix.Munmap(mem)
			})
		}, changed, none},
	} {
		cases = append(cases, Case{"times", op.name, func(c *C) {
			c.mkdir(dir, 0o755)
			c.file("d/f", "content")
			c.file("d/other", "")
			c.file("outside", "")
			c.mkdir("d/sub", 0o755)
			if op.name == "link elsewhere" {
				tick() // the directory above is not looked at
			}
			tick()
			file, d := c.stat("d/f"), c.stat(dir)
			tick()
			c.ok(op.name, op.do(c))
			if op.file.atime {
				soon(func() bool { return moved(file, c.stat("d/f")).atime })
			}
			gotFile, gotDir := moved(file, c.stat("d/f")), moved(d, c.stat(dir))
			if op.file.mtime { // whether such an operation counts as an access is nobody's business
				gotFile.atime = false
			}
			if op.dir.mtime {
				gotDir.atime = false
			}
			eq(c, "times of the file that moved", gotFile, op.file)
			eq(c, "times of the directory that moved", gotDir, op.dir)
		}})
	}
	return append(cases, moreTimeCases()...)
}

func moreTimeCases() []Case {
	return []Case{
		{"times", "a new file has one time for all", func(c *C) {
			c.file("before", "")
			c.open("f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
			st := c.stat("f")
			eq(c, "mtime", ns(st.Mtim), ns(st.Atim))
			eq(c, "ctime", ns(st.Ctim), ns(st.Atim))
			c.that("it is not older than one made before", ns(st.Mtim) >= ns(c.stat("before").Mtim))
		}},
		{"times", "never run backwards between create and write", func(c *C) {
			for i := range 20 {
				name := fmt.Sprint("f", i)
				fd := c.open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
				created := c.fstat(fd)
				c.write(fd, "x")
				written := c.fstat(fd)
				c.close(fd)
				closed := c.stat(name)
				c.that("mtime after create <= after write", ns(created.Mtim) <= ns(written.Mtim))
				eq(c, "mtime after close", ns(closed.Mtim), ns(written.Mtim))
			}
		}},
		{"times", "read of a changed file counts again", func(c *C) {
			c.file("f", "content")
			tick()
			c.has("f", "content")
			first := c.stat("f")
			tick()
			c.ok("write", os.WriteFile(c.p("f"), []byte("changed"), 0o644))
			tick()
			c.has("f", "changed")
			c.that("atime moved", soon(func() bool { return ns(c.stat("f").Atim) > ns(first.Atim) }))
		}},
		{"times", "unlink of one of two names moves ctime", func(c *C) {
			c.file("f", "")
			c.ok("link", unix.Link(c.p("f"), c.p("l")))
			before := c.stat("f")
			tick()
			c.ok("unlink", unix.Unlink(c.p("l")))
			c.that("ctime moved", ns(c.stat("f").Ctim) > ns(before.Ctim))
		}},
		{"times", "rename moves ctime of the file", func(c *C) {
			c.file("f", "")
			before := c.stat("f")
			tick()
			c.ok("rename", unix.Rename(c.p("f"), c.p("g")))
			c.that("ctime moved", ns(c.stat("g").Ctim) > ns(before.Ctim))
			eq(c, "mtime", ns(c.stat("g").Mtim), ns(before.Mtim))
		}},
		{"times", "readlink counts as access", func(c *C) {
			c.symlink("target", "l")
			before := c.lstat("l")
			tick()
			_, err := os.Readlink(c.p("l"))
			c.ok("readlink", err)
			c.that("atime moved", ns(c.lstat("l").Atim) > ns(before.Atim))
		}},
		{"times", "statx has a time of birth that stays", func(c *C) {
			c.file("f", "content")
			birth := func() int64 {
				var st unix.Statx_t
				c.ok("statx", unix.Statx(unix.AT_FDCWD, c.p("f"), 0, unix.STATX_BTIME|unix.STATX_BASIC_STATS, &st))
				c.that("btime is given", st.Mask&unix.STATX_BTIME != 0)
				return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
			}
			first := birth()
			st := c.stat("f")
			c.that("born before it was changed", first <= ns(st.Ctim) && first > ns(st.Ctim)-60e9)
			tick()
			c.ok("write", os.WriteFile(c.p("f"), []byte("x"), 0o644))
			c.ok("utimes", unix.UtimesNanoAt(unix.AT_FDCWD, c.p("f"), []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0))
			eq(c, "btime", birth(), first)
		}},
	}
}

// utimeCases: utimensat(2).
func utimeCases() []Case {
	set := func(c *C, rel string, a, m unix.Timespec) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, c.p(rel), []unix.Timespec{a, m}, 0)
	}
	now, omit := unix.Timespec{Nsec: unix.UTIME_NOW}, unix.Timespec{Nsec: unix.UTIME_OMIT}
	at := func(sec, nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }
	allowed := func(name string, mode uint32, who user, a, m unix.Timespec, want unix.Errno) Case {
		return Case{"utimensat", name, func(c *C) {
			c.fileOf(alice, "f", mode, "content")
			c.as(who, func() { c.is("utimensat", set(c, "f", a, m), want) })
		}}
	}
	exact := func(name string, t unix.Timespec) Case {
		return Case{"utimensat", name, func(c *C) {
			c.file("f", "content")
			c.ok("utimensat", set(c, "f", t, t))
			st := c.stat("f")
			eq(c, "atime", st.Atim, t)
			eq(c, "mtime", st.Mtim, t)
		}}
	}
	return []Case{
		allowed("the owner sets any time", 0o400, alice, at(1, 2), at(3, 4), 0),
		allowed("the owner sets now", 0o400, alice, now, now, 0),
		allowed("a writer sets now", 0o666, carol, now, now, 0),
		allowed("a writer may not set another time", 0o666, carol, at(1, 2), at(3, 4), unix.EPERM),
		allowed("a writer may not set one time to now", 0o666, carol, now, omit, unix.EPERM),
		allowed("a reader may not set now", 0o644, carol, now, now, unix.EACCES),
		allowed("a reader may not set another time", 0o644, carol, at(1, 2), at(3, 4), unix.EPERM),
		allowed("everybody may change nothing", 0o000, carol, omit, omit, 0),
		allowed("root sets any time", 0o000, root, at(1, 2), at(3, 4), 0),
		exact("nanoseconds", at(1_700_000_000, 123_456_789)),
		exact("the epoch", at(0, 0)),
		exact("before the epoch", at(-1_000_000_000, 5)),
		exact("beyond 2038", at(5_000_000_000, 999_999_999)),
		{"utimensat", "one time alone", func(c *C) {
			c.file("f", "content")
			c.ok("both", set(c, "f", at(100, 1), at(200, 2)))
			c.ok("atime", set(c, "f", at(300, 3), omit))
			eq(c, "atime", c.stat("f").Atim, at(300, 3))
			eq(c, "mtime", c.stat("f").Mtim, at(200, 2))
			c.ok("mtime", set(c, "f", omit, at(400, 4)))
			eq(c, "atime", c.stat("f").Atim, at(300, 3))
			eq(c, "mtime", c.stat("f").Mtim, at(400, 4))
		}},
		{"utimensat", "moves ctime to now", func(c *C) {
			c.file("f", "content")
			before := c.stat("f")
			tick()
			c.ok("utimensat", set(c, "f", at(1, 1), at(1, 1)))
			c.that("ctime moved", ns(c.stat("f").Ctim) > ns(before.Ctim))
		}},
		{"utimensat", "after a write on the same descriptor stays", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(fd, "content")
			c.ok("utimensat", set(c, "f", at(100, 1), at(200, 2)))
			eq(c, "mtime", c.fstat(fd).Mtim, at(200, 2))
			c.ok("fsync", unix.Fsync(fd))
			c.close(fd)
			eq(c, "mtime", c.stat("f").Mtim, at(200, 2))
		}},
		{"utimensat", "of a symbolic link itself", func(c *C) {
			c.file("f", "content")
			c.symlink("f", "l")
			ts := []unix.Timespec{at(100, 1), at(200, 2)}
			c.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, c.p("l"), ts, unix.AT_SYMLINK_NOFOLLOW))
			eq(c, "mtime of the link", c.lstat("l").Mtim, at(200, 2))
			c.that("the file's is another", c.stat("f").Mtim != at(200, 2))
		}},
		{"utimensat", "of a directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.ok("utimensat", set(c, "d", at(100, 1), at(200, 2)))
			eq(c, "mtime", c.stat("d").Mtim, at(200, 2))
		}},
		{"utimensat", "nanoseconds out of range", func(c *C) {
			c.file("f", "")
			c.is("utimensat", set(c, "f", at(1, 1_000_000_000), at(1, 0)), unix.EINVAL)
		}},
	}
}
