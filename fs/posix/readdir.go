package posix

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// dirent is an entry as getdents64(2) gives it.
type dirent struct {
	name string
	ino  uint64
	off  int64
	kind byte
}

// some reads entries with one getdents64 of a buffer of n bytes.
func (c *C) some(fd, n int) (entries []dirent) {
	buf := make([]byte, n)
	m, err := unix.Getdents(fd, buf)
	c.ok("getdents", err)
	for b := buf[:m]; len(b) > 0; {
		size := int(b[16]) | int(b[17])<<8
		name := string(b[19:size])
		if i := strings.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		entries = append(entries, dirent{name, le64(b), int64(le64(b[8:])), b[18]})
		b = b[size:]
	}
	return entries
}

func le64(b []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}

// list reads to the end.
func (c *C) list(fd int) (all []dirent) {
	for {
		entries := c.some(fd, 4096)
		if len(entries) == 0 {
			return all
		}
		all = append(all, entries...)
	}
}

func (c *C) rewind(fd int, off int64) {
	_, err := unix.Seek(fd, off, unix.SEEK_SET)
	c.ok("seek", err)
}

// readdirCases: directories as a stream.
func readdirCases() []Case {
	many := func(c *C, n int) int {
		c.mkdir("d", 0o755)
		for i := range n {
			c.ok("create", tryOpen(c.p(fmt.Sprint("d/name-", i)), unix.O_CREAT|unix.O_WRONLY))
		}
		return c.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	count := func(c *C, entries []dirent) map[string]int {
		seen := map[string]int{}
		for _, e := range entries {
			seen[e.name]++
			eq(c, "times that "+e.name+" was listed", seen[e.name], 1)
		}
		return seen
	}
	return []Case{
		{"readdir", "an empty directory has dot and dot dot", func(c *C) {
			c.mkdir("d", 0o755)
			entries := c.list(c.open("d", unix.O_RDONLY, 0))
			eq(c, "entries", len(entries), 2)
			inodes := map[string]uint64{}
			for _, e := range entries {
				inodes[e.name] = e.ino
				eq(c, "type", e.kind, unix.DT_DIR)
			}
			eq(c, "dot", inodes["."], c.stat("d").Ino)
			eq(c, "dot dot", inodes[".."], c.stat("").Ino)
		}},
		{"readdir", "types and inodes", func(c *C) {
			c.mkdir("d", 0o755)
			c.file("d/file", "")
			c.mkdir("d/dir", 0o755)
			c.symlink("x", "d/link")
			c.fifo("d/fifo")
			c.ok("mknod", unix.Mknod(c.p("d/sock"), unix.S_IFSOCK|0o644, 0))
			c.ok("mknod", unix.Mknod(c.p("d/char"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
			want := map[string]byte{"file": unix.DT_REG, "dir": unix.DT_DIR, "link": unix.DT_LNK, "fifo": unix.DT_FIFO, "sock": unix.DT_SOCK, "char": unix.DT_CHR}
			for _, e := range c.list(c.open("d", unix.O_RDONLY, 0)) {
				if kind, ok := want[e.name]; ok {
					eq(c, "type of "+e.name, e.kind, kind)
					eq(c, "inode of "+e.name, e.ino, c.lstat("d/"+e.name).Ino)
				}
			}
		}},
		{"readdir", "three thousand names, each once", func(c *C) {
			eq(c, "names", len(count(c, c.list(many(c, 3000)))), 3002)
		}},
		{"readdir", "small buffers give the same", func(c *C) {
			fd := many(c, 500)
			var all []dirent
			for {
				entries := c.some(fd, 80)
				if len(entries) == 0 {
					break
				}
				all = append(all, entries...)
			}
			eq(c, "names", len(count(c, all)), 502)
		}},
		{"readdir", "an offset leads back to where it was", func(c *C) {
			fd := many(c, 1000)
			all := c.list(fd)
			for _, i := range []int{0, 1, 2, 500, 777, 1000} {
				c.rewind(fd, all[i].off)
				rest := c.list(fd)
				eq(c, "entries behind", len(rest), len(all)-i-1)
				if len(rest) > 0 {
					eq(c, "the next one", rest[0].name, all[i+1].name)
				}
			}
		}},
		{"readdir", "an offset stays good when its entry is gone", func(c *C) {
			fd := many(c, 1000)
			all := c.list(fd)
			gone, next := all[600], all[601]
			if gone.name == "." || gone.name == ".." {
				gone, next = all[602], all[603]
			}
			c.ok("unlink", unix.Unlink(c.p("d/"+gone.name)))
			c.rewind(fd, gone.off)
			eq(c, "the next one", c.some(fd, 4096)[0].name, next.name)
		}},
		{"readdir", "what stays is listed once while others come and go", func(c *C) {
			fd := many(c, 1000)
			var all []dirent
			for i := 0; ; i++ {
				entries := c.some(fd, 512)
				if len(entries) == 0 {
					break
				}
				all = append(all, entries...)
				c.ok("create", tryOpen(c.p(fmt.Sprint("d/new-", i)), unix.O_CREAT|unix.O_WRONLY))
				if i > 0 {
					c.ok("unlink", unix.Unlink(c.p(fmt.Sprint("d/new-", i-1))))
				}
			}
			seen := count(c, all)
			for i := range 1000 {
				eq(c, fmt.Sprint("times that name-", i, " was listed"), seen[fmt.Sprint("name-", i)], 1)
			}
		}},
		{"readdir", "removing while listing removes all in one pass", func(c *C) {
			fd := many(c, 1000)
			removed := 0
			for {
				entries := c.some(fd, 1024)
				if len(entries) == 0 {
					break
				}
				for _, e := range entries {
					if e.name != "." && e.name != ".." {
						c.ok("unlink", unix.Unlink(c.p("d/"+e.name)))
						removed++
					}
				}
			}
			eq(c, "removed", removed, 1000)
			c.ok("rmdir", unix.Rmdir(c.p("d")))
		}},
		{"readdir", "rewinding shows what changed", func(c *C) {
			fd := many(c, 10)
			c.list(fd)
			c.file("d/new", "")
			c.ok("unlink", unix.Unlink(c.p("d/name-3")))
			c.rewind(fd, 0)
			seen := count(c, c.list(fd))
			eq(c, "new", seen["new"], 1)
			eq(c, "old", seen["name-3"], 0)
		}},
		{"readdir", "a second descriptor has a position of its own", func(c *C) {
			a := many(c, 300)
			b := c.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			first := c.some(a, 1024)
			eq(c, "the other's first", c.some(b, 1024)[0].name, first[0].name)
		}},
		{"readdir", "a removed directory", func(c *C) {
			c.mkdir("d", 0o755)
			fd := c.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			c.ok("rmdir", unix.Rmdir(c.p("d")))
			c.is("getdents", one(unix.Getdents(fd, make([]byte, 4096))), unix.ENOENT)
		}},
		{"readdir", "buffer too small for an entry", func(c *C) {
			c.mkdir("d", 0o755)
			c.file("d/"+strings.Repeat("n", 255), "")
			fd := c.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			c.is("getdents", one(unix.Getdents(fd, make([]byte, 10))), unix.EINVAL)
			eq(c, "entries", len(c.list(fd)), 3)
		}},
		{"readdir", "a file", func(c *C) {
			c.file("f", "")
			c.is("getdents", one(unix.Getdents(c.open("f", unix.O_RDONLY, 0), make([]byte, 4096))), unix.ENOTDIR)
		}},
	}
}
