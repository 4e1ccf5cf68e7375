package posix

import (
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

func (c *C) mmap(fd int, off int64, n, prot, flags int) []byte {
	mem, err := unix.Mmap(fd, off, n, prot, flags)
	c.ok("mmap", err)
	c.cleanup(func() { _ = unix.Munmap(mem) })
	return mem
}

// faults says whether touching a byte of a mapping raises SIGBUS.
func faults(mem []byte, i int) (bus bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { bus = recover() != nil }()
	sink = mem[i]
	return false
}

// sink keeps the compiler from dropping a read.
var sink byte

const (
	rw     = unix.PROT_READ | unix.PROT_WRITE
	shared = unix.MAP_SHARED
)

// mmapCases: mappings of files.
func mmapCases() []Case {
	return []Case{
		{"mmap", "reads what was written", func(c *C) {
			c.file("f", fill('x', 5000)+fill('y', 5000))
			mem := c.mmap(c.open("f", unix.O_RDONLY, 0), 4096, 5904, unix.PROT_READ, shared)
			c.same("content", mem, fill('x', 904)+fill('y', 5000))
		}},
		{"mmap", "what is stored is read at once", func(c *C) {
			c.file("f", fill('x', 10_000))
			fd := c.open("f", unix.O_RDWR, 0)
			mem := c.mmap(fd, 0, 10_000, rw, shared)
			copy(mem[5000:], "stored")
			c.same("read", c.pread(fd, 6, 5000), "stored")
			c.has("f", fill('x', 5000)+"stored"+fill('x', 4994))
		}},
		{"mmap", "what is written is seen at once", func(c *C) {
			c.file("f", fill('x', 10_000))
			fd := c.open("f", unix.O_RDWR, 0)
			mem := c.mmap(fd, 0, 10_000, unix.PROT_READ, shared)
			c.same("before", mem[:3], "xxx")
			c.pwrite(fd, "written", 0)
			c.same("after", mem[:7], "written")
		}},
		{"mmap", "survives unmapping and closing", func(c *C) {
			c.file("f", fill('x', 10_000))
			fd := c.open("f", unix.O_RDWR, 0)
			mem, err := unix.Mmap(fd, 0, 10_000, rw, shared)
			c.ok("mmap", err)
			c.close(fd)
			copy(mem, "stored after close")
			c.ok("munmap", unix.Munmap(mem))
			fd = c.open("f", unix.O_RDWR, 0)
			c.ok("fsync", unix.Fsync(fd))
			c.ok("drop pages", unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
			c.has("f", "stored after close"+fill('x', 9982))
		}},
		{"mmap", "private stores stay private", func(c *C) {
			c.file("f", "content")
			mem := c.mmap(c.open("f", unix.O_RDONLY, 0), 0, 7, rw, unix.MAP_PRIVATE)
			copy(mem, "private")
			c.has("f", "content")
		}},
		{"mmap", "two mappings of two descriptors are one", func(c *C) {
			c.file("f", fill('x', 4096))
			a := c.mmap(c.open("f", unix.O_RDWR, 0), 0, 4096, rw, shared)
			b := c.mmap(c.open("f", unix.O_RDWR, 0), 0, 4096, rw, shared)
			a[100] = 'A'
			eq(c, "seen by the other", b[100], 'A')
		}},
		{"mmap", "bytes behind the end are zero, and are not kept", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			mem := c.mmap(fd, 0, 4096, rw, shared)
			c.same("behind the end", mem[7:], zeros(4089))
			copy(mem[7:], "behind")
			c.ok("msync", unix.Msync(mem, unix.MS_SYNC))
			eq(c, "size", c.fstat(fd).Size, 7)
			c.ok("grow", unix.Ftruncate(fd, 20))
			c.has("f", "content"+zeros(13))
		}},
		{"mmap", "pages behind the end fault", func(c *C) {
			c.file("f", "content")
			mem := c.mmap(c.open("f", unix.O_RDONLY, 0), 0, 8192, unix.PROT_READ, shared)
			eq(c, "first page faults", faults(mem, 4095), false)
			eq(c, "second page faults", faults(mem, 4096), true)
		}},
		{"mmap", "pages that are cut off fault, and come back as zeros", func(c *C) {
			c.file("f", fill('x', 8192))
			fd := c.open("f", unix.O_RDWR, 0)
			mem := c.mmap(fd, 0, 8192, rw, shared)
			mem[5000] = 'y'
			c.ok("cut", unix.Ftruncate(fd, 100))
			eq(c, "faults", faults(mem, 5000), true)
			c.ok("grow", unix.Ftruncate(fd, 8192))
			eq(c, "faults", faults(mem, 5000), false)
			eq(c, "value", mem[5000], 0)
		}},
		{"mmap", "of an unlinked file", func(c *C) {
			c.file("f", fill('x', 8192))
			fd := c.open("f", unix.O_RDWR, 0)
			mem := c.mmap(fd, 0, 8192, rw, shared)
			c.close(fd)
			c.ok("unlink", unix.Unlink(c.p("f")))
			mem[0] = 'y'
			c.ok("msync", unix.Msync(mem, unix.MS_SYNC))
			c.same("content", mem[:2], "yx")
		}},
		{"mmap", "sparse file, stores into a hole", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.ok("ftruncate", unix.Ftruncate(fd, 10<<20))
			mem := c.mmap(fd, 0, 10<<20, rw, shared)
			mem[5<<20] = 'x'
			c.ok("msync", unix.Msync(mem, unix.MS_SYNC))
			c.same("content", c.pread(fd, 3, 5<<20-1), "\x00x\x00")
			c.that("few blocks", c.fstat(fd).Blocks < 1000)
		}},
		{"mmap", "a punched page reads as zeros", func(c *C) {
			c.file("f", fill('x', 16384))
			fd := c.open("f", unix.O_RDWR, 0)
			mem := c.mmap(fd, 0, 16384, rw, shared)
			c.same("before", mem[4096:4100], "xxxx")
			c.ok("punch", unix.Fallocate(fd, punchHole|keepSize, 4096, 4096))
			c.same("after", mem[4095:4098], "x\x00\x00")
			mem[4096] = 'y'
			c.same("stored", c.pread(fd, 2, 4095), "xy")
		}},
		{"mmap", "permissions of the descriptor", func(c *C) {
			c.file("f", fill('x', 4096))
			_, err := unix.Mmap(c.open("f", unix.O_RDONLY, 0), 0, 4096, rw, shared)
			c.is("shared writing of a read-only descriptor", err, unix.EACCES)
			_, err = unix.Mmap(c.open("f", unix.O_WRONLY, 0), 0, 4096, unix.PROT_READ, shared)
			c.is("reading of a write-only descriptor", err, unix.EACCES)
		}},
		{"mmap", "of a directory", func(c *C) {
			c.mkdir("d", 0o755)
			_, err := unix.Mmap(c.open("d", unix.O_RDONLY, 0), 0, 4096, unix.PROT_READ, shared)
			c.is("mmap", err, unix.ENODEV)
		}},
	}
}

// aligned returns n bytes whose address is a multiple of a page.
func (c *C) aligned(n int) []byte {
	mem, err := unix.Mmap(-1, 0, n, rw, unix.MAP_PRIVATE|unix.MAP_ANON)
	c.ok("mmap", err)
	c.cleanup(func() { _ = unix.Munmap(mem) })
	c.that("it is aligned", uintptr(unsafe.Pointer(&mem[0]))%4096 == 0)
	return mem
}

// directCases: O_DIRECT with what every filesystem's alignment allows.
func directCases() []Case {
	return []Case{
		{"direct", "write and read", func(c *C) {
			buf := c.aligned(65536)
			copy(buf, fill('d', 65536))
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o644)
			n, err := unix.Pwrite(fd, buf, 0)
			c.ok("pwrite", err)
			eq(c, "written", n, 65536)
			clear(buf)
			n, err = unix.Pread(fd, buf[:8192], 4096)
			c.ok("pread", err)
			eq(c, "read", n, 8192)
			c.same("content", buf[:8192], fill('d', 8192))
			c.has("f", fill('d', 65536))
		}},
		{"direct", "sees buffered writes", func(c *C) {
			w := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(w, fill('x', 8192))
			buf := c.aligned(8192)
			_, err := unix.Pread(c.open("f", unix.O_RDONLY|unix.O_DIRECT, 0), buf, 0)
			c.ok("pread", err)
			c.same("content", buf, fill('x', 8192))
		}},
		{"direct", "is seen by buffered reads", func(c *C) {
			c.file("f", fill('x', 8192))
			c.has("f", fill('x', 8192))
			buf := c.aligned(4096)
			copy(buf, fill('d', 4096))
			_, err := unix.Pwrite(c.open("f", unix.O_WRONLY|unix.O_DIRECT, 0), buf, 4096)
			c.ok("pwrite", err)
			c.has("f", fill('x', 4096)+fill('d', 4096))
		}},
		{"direct", "across the end", func(c *C) {
			c.file("f", fill('x', 6000))
			buf := c.aligned(8192)
			n, err := unix.Pread(c.open("f", unix.O_RDONLY|unix.O_DIRECT, 0), buf, 0)
			c.ok("pread", err)
			eq(c, "read", n, 6000)
		}},
		{"direct", "grows the file", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o644)
			buf := c.aligned(4096)
			for i := range 10 {
				_, err := unix.Pwrite(fd, buf, int64(i)*4096)
				c.ok("pwrite", err)
				eq(c, "size", c.fstat(fd).Size, int64(i+1)*4096)
			}
		}},
		{"direct", "an unaligned buffer", func(c *C) {
			c.file("f", fill('x', 8192))
			buf := c.aligned(8192)
			c.is("pread", one(unix.Pread(c.open("f", unix.O_RDONLY|unix.O_DIRECT, 0), buf[1:4097], 0)), unix.EINVAL)
		}},
	}
}
