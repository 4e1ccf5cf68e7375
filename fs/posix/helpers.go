package posix

import (
	"bytes"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// create makes a file with content and mode, whatever the umask, and returns its path.
func (c *C) create(rel string, mode uint32, content string) string {
	fd := c.open(rel, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	c.write(fd, content)
	c.close(fd)
	c.ok("chmod", unix.Chmod(c.p(rel), mode))
	return c.p(rel)
}

// file is create with an everyday mode.
func (c *C) file(rel, content string) string { return c.create(rel, 0o644, content) }

// fileOf is create for another owner. Changing the owner clears bits, so the mode comes last.
func (c *C) fileOf(u user, rel string, mode uint32, content string) string {
	p := c.create(rel, 0o600, content)
	c.own(rel, u.uid, u.gid, mode)
	return p
}

func (c *C) mkdir(rel string, mode uint32) string {
	c.ok("mkdir "+rel, unix.Mkdir(c.p(rel), 0o700))
	c.ok("chmod", unix.Chmod(c.p(rel), mode))
	return c.p(rel)
}

func (c *C) dirOf(u user, rel string, mode uint32) string {
	p := c.mkdir(rel, 0o700)
	c.own(rel, u.uid, u.gid, mode)
	return p
}

func (c *C) own(rel string, uid, gid int, mode uint32) {
	c.ok("chown", unix.Chown(c.p(rel), uid, gid))
	c.ok("chmod", unix.Chmod(c.p(rel), mode))
}

func (c *C) symlink(target, rel string) string {
	c.ok("symlink "+rel, unix.Symlink(target, c.p(rel)))
	return c.p(rel)
}

func (c *C) fifo(rel string) string {
	c.ok("mkfifo "+rel, unix.Mkfifo(c.p(rel), 0o644))
	return c.p(rel)
}

// open opens a file that is closed with the case.
func (c *C) open(rel string, flags int, mode uint32) int {
	fd, err := unix.Open(c.p(rel), flags|unix.O_CLOEXEC, mode)
	c.ok("open "+rel, err)
	c.fds[fd] = true
	return fd
}

// tryOpen opens and closes.
func tryOpen(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// close closes what open opened.
func (c *C) close(fd int) {
	delete(c.fds, fd)
	c.ok("close", unix.Close(fd))
}

func (c *C) write(fd int, content string) {
	for b := []byte(content); len(b) > 0; {
		n, err := unix.Write(fd, b)
		c.ok("write", err)
		b = b[n:]
	}
}

func (c *C) pwrite(fd int, content string, off int64) {
	n, err := unix.Pwrite(fd, []byte(content), off)
	c.ok("pwrite", err)
	eq(c, "bytes written", n, len(content))
}

func (c *C) pread(fd, n int, off int64) []byte {
	b := make([]byte, n)
	m, err := unix.Pread(fd, b, off)
	c.ok("pread", err)
	return b[:m]
}

func (c *C) read(rel string) []byte {
	b, err := os.ReadFile(c.p(rel))
	c.ok("read "+rel, err)
	return b
}

// has fails unless the file has the content.
func (c *C) has(rel, want string) { c.same("content of "+rel, c.read(rel), want) }

func (c *C) stat(rel string) unix.Stat_t {
	var st unix.Stat_t
	c.ok("stat "+rel, unix.Stat(c.p(rel), &st))
	return st
}

func (c *C) lstat(rel string) unix.Stat_t {
	var st unix.Stat_t
	c.ok("lstat "+rel, unix.Lstat(c.p(rel), &st))
	return st
}

func (c *C) fstat(fd int) unix.Stat_t {
	var st unix.Stat_t
	c.ok("fstat", unix.Fstat(fd, &st))
	return st
}

// mode fails unless the permission bits are want.
func (c *C) mode(rel string, want uint32) {
	if got := c.lstat(rel).Mode & 0o7777; got != want {
		c.failf("mode of %s: %04o, want %04o", rel, got, want)
	}
}

// absent fails if there is anything under the name.
func (c *C) absent(rel string) {
	var st unix.Stat_t
	c.is("lstat "+rel, unix.Lstat(c.p(rel), &st), unix.ENOENT)
}

func (c *C) names(rel string) string {
	entries, err := os.ReadDir(c.p(rel))
	c.ok("list "+rel, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func ns(t unix.Timespec) int64 { return t.Sec*1e9 + t.Nsec }

// tick waits until file times have moved on: the kernel's clock for them is coarse.
func tick() { time.Sleep(12 * time.Millisecond) }

// soon looks until something has happened, up to half a minute: an access that the page cache serves is told to a FUSE filesystem by RELEASE, for which close(2) does not wait.
func soon(happened func() bool) bool {
	for end := time.Now().Add(30 * time.Second); !happened(); tick() {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func zeros(n int) string { return string(make([]byte, n)) }

func fill(b byte, n int) string { return string(bytes.Repeat([]byte{b}, n)) }
