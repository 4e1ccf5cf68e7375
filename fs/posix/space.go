package posix

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	keepSize  = unix.FALLOC_FL_KEEP_SIZE
	punchHole = unix.FALLOC_FL_PUNCH_HOLE
	zeroRange = unix.FALLOC_FL_ZERO_RANGE
)

// seekCases: lseek(2), SEEK_DATA and SEEK_HOLE among it. Where holes begin is the filesystem's to choose, so cases ask only what every right answer has.
func seekCases() []Case {
	at := func(c *C, fd int, off int64, whence int) int64 {
		n, err := unix.Seek(fd, off, whence)
		c.ok("seek", err)
		return n
	}
	return []Case{
		{"seek", "set, current, end", func(c *C) {
			c.file("f", "0123456789")
			fd := c.open("f", unix.O_RDONLY, 0)
			eq(c, "set", at(c, fd, 4, unix.SEEK_SET), 4)
			eq(c, "current", at(c, fd, 2, unix.SEEK_CUR), 6)
			eq(c, "end", at(c, fd, -1, unix.SEEK_END), 9)
			eq(c, "behind the end", at(c, fd, 100, unix.SEEK_SET), 100)
			c.is("before the start", one(unix.Seek(fd, -1, unix.SEEK_SET)), unix.EINVAL)
			c.is("unknown", one(unix.Seek(fd, 0, 99)), unix.EINVAL)
		}},
		{"seek", "end of a file that is being written", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			for i := 1; i <= 10; i++ {
				c.write(fd, fill('x', 1000))
				eq(c, "end", at(c, fd, 0, unix.SEEK_END), int64(i)*1000)
			}
		}},
		{"seek", "data and hole of a full file", func(c *C) {
			c.file("f", fill('x', 10_000))
			fd := c.open("f", unix.O_RDONLY, 0)
			eq(c, "data", at(c, fd, 0, unix.SEEK_DATA), 0)
			eq(c, "data in the middle", at(c, fd, 5000, unix.SEEK_DATA), 5000)
			eq(c, "hole", at(c, fd, 0, unix.SEEK_HOLE), 10_000)
			eq(c, "hole from the middle", at(c, fd, 9999, unix.SEEK_HOLE), 10_000)
		}},
		{"seek", "data and hole at and behind the end", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDONLY, 0)
			for _, off := range []int64{7, 8, 1 << 40} {
				c.is("data", one(unix.Seek(fd, off, unix.SEEK_DATA)), unix.ENXIO)
				c.is("hole", one(unix.Seek(fd, off, unix.SEEK_HOLE)), unix.ENXIO)
			}
			c.is("negative", one(unix.Seek(fd, -1, unix.SEEK_DATA)), unix.ENXIO)
		}},
		{"seek", "an empty file", func(c *C) {
			c.file("f", "")
			fd := c.open("f", unix.O_RDONLY, 0)
			c.is("data", one(unix.Seek(fd, 0, unix.SEEK_DATA)), unix.ENXIO)
			c.is("hole", one(unix.Seek(fd, 0, unix.SEEK_HOLE)), unix.ENXIO)
		}},
		{"seek", "a file that is one hole", func(c *C) {
			c.file("f", "")
			c.ok("truncate", unix.Truncate(c.p("f"), 1<<20))
			fd := c.open("f", unix.O_RDONLY, 0)
			c.is("data", one(unix.Seek(fd, 0, unix.SEEK_DATA)), unix.ENXIO)
			eq(c, "hole", at(c, fd, 4096, unix.SEEK_HOLE), 4096)
		}},
		{"seek", "data behind a hole, right after an unsynced write", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.pwrite(fd, fill('x', 4096), 1<<20)
			data := at(c, fd, 0, unix.SEEK_DATA)
			c.that("data is found where it is, or before", data <= 1<<20 && data > 0)
			eq(c, "hole", at(c, fd, 1<<20, unix.SEEK_HOLE), 1<<20+4096)
			eq(c, "hole at the start", at(c, fd, 0, unix.SEEK_HOLE), 0)
		}},
		{"seek", "a punched hole is one", func(c *C) {
			c.file("f", fill('x', 1<<20))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("punch", unix.Fallocate(fd, punchHole|keepSize, 256<<10, 256<<10))
			eq(c, "hole", at(c, fd, 0, unix.SEEK_HOLE), 256<<10)
			eq(c, "data", at(c, fd, 256<<10, unix.SEEK_DATA), 512<<10)
		}},
		{"seek", "data through one descriptor, written by another", func(c *C) {
			w, r := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644), c.open("f", unix.O_RDONLY, 0)
			c.pwrite(w, "x", 1<<20)
			c.that("data is found", at(c, r, 0, unix.SEEK_DATA) > 0)
		}},
		{"seek", "a directory and a descriptor of a pipe", func(c *C) {
			var p [2]int
			c.ok("pipe", unix.Pipe2(p[:], unix.O_CLOEXEC))
			c.fds[p[0]], c.fds[p[1]] = true, true
			c.is("pipe", one(unix.Seek(p[0], 0, unix.SEEK_SET)), unix.ESPIPE)
			c.mkdir("d", 0o755)
			fd := c.open("d", unix.O_RDONLY, 0)
			eq(c, "directory", at(c, fd, 0, unix.SEEK_SET), 0)
		}},
	}
}

// fallocateCases: fallocate(2).
func fallocateCases() []Case {
	blocks := func(c *C, fd int) int64 {
		c.ok("fsync", unix.Fsync(fd))
		return c.fstat(fd).Blocks
	}
	return []Case{
		{"fallocate", "grows the file, content stays", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("fallocate", unix.Fallocate(fd, 0, 100, 10_000))
			c.has("f", "content"+zeros(10_093))
		}},
		{"fallocate", "within the file changes nothing", func(c *C) {
			c.file("f", fill('x', 10_000))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("fallocate", unix.Fallocate(fd, 0, 100, 5000))
			c.has("f", fill('x', 10_000))
		}},
		{"fallocate", "KEEP_SIZE keeps it", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("fallocate", unix.Fallocate(fd, keepSize, 0, 100_000))
			c.has("f", "content")
		}},
		{"fallocate", "punch zeroes exactly the range", func(c *C) {
			c.file("f", fill('x', 100_000))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("punch", unix.Fallocate(fd, punchHole|keepSize, 5000, 50_001))
			c.has("f", fill('x', 5000)+zeros(50_001)+fill('x', 44_999))
			eq(c, "size", c.fstat(fd).Size, 100_000)
		}},
		{"fallocate", "punch gives back space", func(c *C) {
			c.file("f", fill('x', 1<<20))
			fd := c.open("f", unix.O_RDWR, 0)
			before := blocks(c, fd)
			c.ok("punch", unix.Fallocate(fd, punchHole|keepSize, 0, 512<<10))
			c.that("blocks are fewer by half", blocks(c, fd) <= before*3/4)
		}},
		{"fallocate", "punch across and behind the end", func(c *C) {
			c.file("f", fill('x', 10_000))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("across", unix.Fallocate(fd, punchHole|keepSize, 8000, 10_000))
			c.ok("behind", unix.Fallocate(fd, punchHole|keepSize, 50_000, 10_000))
			c.has("f", fill('x', 8000)+zeros(2000))
		}},
		{"fallocate", "punch needs KEEP_SIZE", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.is("punch", unix.Fallocate(fd, punchHole, 0, 4096), unix.EOPNOTSUPP)
		}},
		{"fallocate", "zero range", func(c *C) {
			c.file("f", fill('x', 20_000))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("zero", unix.Fallocate(fd, zeroRange, 3000, 10_000))
			c.has("f", fill('x', 3000)+zeros(10_000)+fill('x', 7000))
		}},
		{"fallocate", "zero range grows the file", func(c *C) {
			c.file("f", fill('x', 5000))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("zero", unix.Fallocate(fd, zeroRange, 3000, 10_000))
			c.has("f", fill('x', 3000)+zeros(10_000))
		}},
		{"fallocate", "zero range with KEEP_SIZE does not", func(c *C) {
			c.file("f", fill('x', 5000))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("zero", unix.Fallocate(fd, zeroRange|keepSize, 3000, 10_000))
			c.has("f", fill('x', 3000)+zeros(2000))
		}},
		{"fallocate", "sees unsynced writes", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(fd, fill('x', 50_000))
			c.ok("punch", unix.Fallocate(fd, punchHole|keepSize, 10_000, 10_000))
			c.pwrite(fd, "y", 15_000)
			c.has("f", fill('x', 10_000)+zeros(5000)+"y"+zeros(4999)+fill('x', 30_000))
		}},
		{"fallocate", "bad ranges", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.is("no length", unix.Fallocate(fd, 0, 0, 0), unix.EINVAL)
			c.is("negative length", unix.Fallocate(fd, 0, 0, -1), unix.EINVAL)
			c.is("negative offset", unix.Fallocate(fd, 0, -1, 10), unix.EINVAL)
		}},
		{"fallocate", "a descriptor for reading, and a directory", func(c *C) {
			c.file("f", "")
			c.mkdir("d", 0o755)
			c.is("reading", unix.Fallocate(c.open("f", unix.O_RDONLY, 0), 0, 0, 10), unix.EBADF)
			c.is("directory", unix.Fallocate(c.open("d", unix.O_RDONLY, 0), 0, 0, 10), unix.EBADF)
		}},
		{"fallocate", "collapse and insert", func(c *C) {
			c.file("f", fill('a', 4096)+fill('b', 4096)+fill('c', 4096))
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("collapse", unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 4096, 4096))
			c.has("f", fill('a', 4096)+fill('c', 4096))
			c.ok("insert", unix.Fallocate(fd, unix.FALLOC_FL_INSERT_RANGE, 4096, 4096))
			c.has("f", fill('a', 4096)+zeros(4096)+fill('c', 4096))
		}},
		{"fallocate", "mode 0 reserves blocks", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.ok("fallocate", unix.Fallocate(fd, 0, 0, 1<<20))
			c.that("blocks are there", blocks(c, fd) >= 2048)
		}},
	}
}

// copyCases: copy_file_range(2).
func copyCases() []Case {
	copyAll := func(c *C, src int, from int64, dst int, to int64, n int) int {
		done := 0
		for done < n {
			m, err := unix.CopyFileRange(src, &from, dst, &to, n-done, 0)
			c.ok("copy_file_range", err)
			if m == 0 {
				break
			}
			done += m
		}
		return done
	}
	return []Case{
		{"copy", "a whole file", func(c *C) {
			content := fill('x', 50_000) + fill('y', 50_000) + fill('z', 31)
			c.file("a", content)
			src, dst := c.open("a", unix.O_RDONLY, 0), c.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
			eq(c, "copied", copyAll(c, src, 0, dst, 0, 1<<30), len(content))
			c.has("b", content)
		}},
		{"copy", "a part to another place", func(c *C) {
			c.file("a", "0123456789")
			c.file("b", fill('x', 20_000))
			src, dst := c.open("a", unix.O_RDONLY, 0), c.open("b", unix.O_RDWR, 0)
			eq(c, "copied", copyAll(c, src, 3, dst, 10_000, 4), 4)
			c.has("b", fill('x', 10_000)+"3456"+fill('x', 9996))
		}},
		{"copy", "behind the end of the target leaves a gap", func(c *C) {
			c.file("a", "content")
			src, dst := c.open("a", unix.O_RDONLY, 0), c.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
			copyAll(c, src, 0, dst, 5000, 7)
			c.has("b", zeros(5000)+"content")
		}},
		{"copy", "what is unsynced", func(c *C) {
			src, dst := c.open("a", unix.O_CREAT|unix.O_RDWR, 0o644), c.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(src, fill('x', 10_000))
			c.write(dst, fill('y', 20_000))
			copyAll(c, src, 0, dst, 5000, 10_000)
			c.has("b", fill('y', 5000)+fill('x', 10_000)+fill('y', 5000))
		}},
		{"copy", "holes over data", func(c *C) {
			src, dst := c.open("a", unix.O_CREAT|unix.O_RDWR, 0o644), c.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.pwrite(src, fill('x', 4096), 1<<20)
			c.write(dst, fill('y', 2<<20))
			copyAll(c, src, 0, dst, 0, 1<<20+4096)
			c.has("b", zeros(1<<20)+fill('x', 4096)+fill('y', 1<<20-4096))
		}},
		{"copy", "within a file", func(c *C) {
			c.file("a", fill('x', 5000)+fill('y', 5000))
			fd := c.open("a", unix.O_RDWR, 0)
			copyAll(c, fd, 0, fd, 5000, 5000)
			c.has("a", fill('x', 10_000))
		}},
		{"copy", "within a file, overlapping", func(c *C) {
			c.file("a", fill('x', 10_000))
			fd := c.open("a", unix.O_RDWR, 0)
			from, to := int64(0), int64(100)
			c.is("copy", one(unix.CopyFileRange(fd, &from, fd, &to, 5000, 0)), unix.EINVAL)
		}},
		{"copy", "from the end", func(c *C) {
			c.file("a", "content")
			src, dst := c.open("a", unix.O_RDONLY, 0), c.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
			from := int64(7)
			n, err := unix.CopyFileRange(src, &from, dst, nil, 10, 0)
			c.ok("copy", err)
			eq(c, "copied", n, 0)
		}},
		{"copy", "to a descriptor for reading, one for appending, a directory", func(c *C) {
			c.file("a", "content")
			c.file("b", "")
			c.mkdir("d", 0o755)
			src := c.open("a", unix.O_RDONLY, 0)
			c.is("reading", one(unix.CopyFileRange(src, nil, c.open("b", unix.O_RDONLY, 0), nil, 5, 0)), unix.EBADF)
			c.is("appending", one(unix.CopyFileRange(src, nil, c.open("b", unix.O_RDWR|unix.O_APPEND, 0), nil, 5, 0)), unix.EBADF)
			c.is("directory", one(unix.CopyFileRange(c.open("d", unix.O_RDONLY, 0), nil, c.open("b", unix.O_RDWR, 0), nil, 5, 0)), unix.EISDIR)
			c.is("flags", one(unix.CopyFileRange(src, nil, c.open("b", unix.O_RDWR, 0), nil, 5, 1)), unix.EINVAL)
		}},
		{"copy", "moves both offsets", func(c *C) {
			c.file("a", "0123456789")
			src, dst := c.open("a", unix.O_RDONLY, 0), c.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
			n, err := unix.CopyFileRange(src, nil, dst, nil, 4, 0)
			c.ok("copy", err)
			eq(c, "copied", n, 4)
			c.write(dst, "x")
			c.has("b", "0123x")
			off, err := unix.Seek(src, 0, unix.SEEK_CUR)
			c.ok("seek", err)
			eq(c, "offset", off, 4)
		}},
	}
}

// largeCases: sizes near the limits.
func largeCases() []Case {
	return []Case{
		{"large", "a sparse file of 8 TiB", func(c *C) {
			const size = 8 << 40
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.ok("ftruncate", unix.Ftruncate(fd, size))
			c.pwrite(fd, "end", size-3)
			c.pwrite(fd, "middle", size/2)
			c.ok("fsync", unix.Fsync(fd))
			c.same("end", c.pread(fd, 10, size-3), "end")
			c.same("middle", c.pread(fd, 6, size/2), "middle")
			c.same("gap", c.pread(fd, 10, size/3), zeros(10))
			c.that("few blocks", c.fstat(fd).Blocks < 10_000)
			data, err := unix.Seek(fd, size/2+(1<<20), unix.SEEK_DATA)
			c.ok("seek", err)
			c.that("the end is found", data > size-(2<<20) && data < size)
		}},
		{"large", "truncate beyond the limit", func(c *C) {
			c.file("f", "")
			c.is("truncate", unix.Truncate(c.p("f"), 1<<62), unix.EFBIG)
			eq(c, "size", c.stat("f").Size, 0)
		}},
		{"large", "fallocate beyond the limit", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.is("fallocate", unix.Fallocate(fd, 0, 1<<62, 4096), unix.EFBIG)
		}},
		{"large", "write beyond the limit", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.is("pwrite", one(unix.Pwrite(fd, []byte("x"), 1<<60)), unix.EFBIG)
		}},
		{"large", "a directory of three thousand names", func(c *C) {
			c.mkdir("d", 0o755)
			for i := range 3000 {
				c.ok("create", tryOpen(c.p(fmt.Sprint("d/name-", i)), unix.O_CREAT|unix.O_WRONLY))
			}
			fd := c.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			eq(c, "names", len(c.list(fd)), 3002)
			c.stat("d/name-2999")
			for i := range 3000 {
				c.ok("unlink", unix.Unlink(c.p(fmt.Sprint("d/name-", i))))
			}
			c.ok("rmdir", unix.Rmdir(c.p("d")))
		}},
	}
}
