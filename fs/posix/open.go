package posix

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// openCases: open(2) with its flags.
func openCases() []Case {
	return []Case{
		{"open", "O_CREAT makes, and opens what is there", func(c *C) {
			c.ok("open", tryOpen(c.p("f"), unix.O_CREAT|unix.O_WRONLY))
			c.ok("write", os.WriteFile(c.p("f"), []byte("content"), 0o644))
			c.ok("open", tryOpen(c.p("f"), unix.O_CREAT|unix.O_WRONLY))
			c.has("f", "content")
		}},
		{"open", "O_CREAT of what is there changes no mode", func(c *C) {
			c.create("f", 0o600, "")
			fd, err := unix.Open(c.p("f"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o777)
			c.ok("open", err)
			unix.Close(fd)
			c.mode("f", 0o600)
		}},
		{"open", "O_EXCL", func(c *C) {
			c.ok("new", tryOpen(c.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY))
			c.is("old", tryOpen(c.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY), unix.EEXIST)
			c.mkdir("d", 0o755)
			c.is("directory", tryOpen(c.p("d"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY), unix.EEXIST)
		}},
		{"open", "O_EXCL among many lets one win", func(c *C) {
			var wg sync.WaitGroup
			wins := make(chan int, 16)
			for i := range 16 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					if tryOpen(c.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY) == nil {
						wins <- i
					}
				}()
			}
			wg.Wait()
			eq(c, "winners", len(wins), 1)
		}},
		{"open", "O_TRUNC", func(c *C) {
			c.file("f", "content")
			c.ok("open", tryOpen(c.p("f"), unix.O_WRONLY|unix.O_TRUNC))
			c.has("f", "")
		}},
		{"open", "O_TRUNC without permission leaves the file", func(c *C) {
			c.file("f", "content")
			c.as(alice, func() { c.is("open", tryOpen(c.p("f"), unix.O_WRONLY|unix.O_TRUNC), unix.EACCES) })
			c.has("f", "content")
		}},
		{"open", "O_TRUNC while others have it open", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.ok("open", tryOpen(c.p("f"), unix.O_WRONLY|unix.O_TRUNC))
			eq(c, "size", c.fstat(fd).Size, 0)
			c.pwrite(fd, "x", 5)
			c.has("f", zeros(5)+"x")
		}},
		{"open", "what is not there", func(c *C) { c.is("open", tryOpen(c.p("f"), unix.O_RDONLY), unix.ENOENT) }},
		{"open", "below a file", func(c *C) {
			c.file("f", "")
			c.is("open", tryOpen(c.p("f/x"), unix.O_RDONLY), unix.ENOTDIR)
		}},
		{"open", "O_DIRECTORY", func(c *C) {
			c.file("f", "")
			c.mkdir("d", 0o755)
			c.is("file", tryOpen(c.p("f"), unix.O_RDONLY|unix.O_DIRECTORY), unix.ENOTDIR)
			c.ok("directory", tryOpen(c.p("d"), unix.O_RDONLY|unix.O_DIRECTORY))
		}},
		{"open", "a directory for writing", func(c *C) {
			c.mkdir("d", 0o755)
			c.is("write", tryOpen(c.p("d"), unix.O_WRONLY), unix.EISDIR)
			c.is("both", tryOpen(c.p("d"), unix.O_RDWR), unix.EISDIR)
			c.is("create", tryOpen(c.p("d"), unix.O_RDONLY|unix.O_CREAT), unix.EISDIR)
		}},
		{"open", "O_NOFOLLOW", func(c *C) {
			c.file("f", "")
			c.symlink("f", "l")
			c.is("link", tryOpen(c.p("l"), unix.O_RDONLY|unix.O_NOFOLLOW), unix.ELOOP)
			c.ok("file", tryOpen(c.p("f"), unix.O_RDONLY|unix.O_NOFOLLOW))
		}},
		{"open", "O_PATH gives no content, but a place", func(c *C) {
			c.create("f", 0, "content")
			fd := c.open("f", unix.O_PATH, 0)
			c.is("read", one(unix.Read(fd, make([]byte, 1))), unix.EBADF)
			eq(c, "size", c.fstat(fd).Size, 7)
			c.ok("open again", tryOpen(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY))
		}},
		{"open", "O_PATH of an unlinked file opens again", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_PATH, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			eq(c, "links", c.fstat(fd).Nlink, 0)
			b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
			c.ok("read", err)
			c.same("content", b, "content")
		}},
		{"open", "writing on a descriptor for reading, and the other way round", func(c *C) {
			c.file("f", "content")
			r, w := c.open("f", unix.O_RDONLY, 0), c.open("f", unix.O_WRONLY, 0)
			c.is("write", one(unix.Write(r, []byte("x"))), unix.EBADF)
			c.is("read", one(unix.Read(w, make([]byte, 1))), unix.EBADF)
		}},
		{"open", "O_NOATIME is the owner's", func(c *C) {
			c.fileOf(alice, "f", 0o644, "")
			c.as(alice, func() { c.ok("owner", tryOpen(c.p("f"), unix.O_RDONLY|unix.O_NOATIME)) })
			c.as(carol, func() { c.is("other", tryOpen(c.p("f"), unix.O_RDONLY|unix.O_NOATIME), unix.EPERM) })
		}},
		{"open", "a running program for writing", func(c *C) {
			b, err := os.ReadFile("/bin/sleep")
			if err != nil {
				c.skipf("%v", err)
			}
			c.ok("write", os.WriteFile(c.p("sleep"), b, 0o755))
			p, err := os.StartProcess(c.p("sleep"), []string{"sleep", "60"}, &os.ProcAttr{})
			c.ok("start", err)
			err = tryOpen(c.p("sleep"), unix.O_WRONLY)
			c.ok("kill", p.Kill())
			_, _ = p.Wait()
			c.is("open", err, unix.ETXTBSY)
		}},
		{"open", "many descriptors of one file", func(c *C) {
			c.file("f", "content")
			for i := range 200 {
				fd := c.open("f", unix.O_RDWR, 0)
				c.pwrite(fd, fmt.Sprintf("%03d", i), 0)
			}
			c.has("f", "199tent")
		}},
		{"open", "a thousand files at once", func(c *C) {
			for i := range 1000 {
				fd, err := unix.Open(c.p(fmt.Sprint("f", i)), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
				if err == unix.EMFILE {
					c.skipf("this process may not open so many")
				}
				c.ok("open", err)
				c.fds[fd] = true
				c.write(fd, fmt.Sprint(i))
			}
			c.has("f999", "999")
			c.has("f0", "0")
		}},
	}
}

// ioCases: read(2) and write(2).
func ioCases() []Case {
	return []Case{
		{"io", "what was written is read, at every size around blocks", func(c *C) {
			for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, 65535, 65536, 131071, 131072, 131073, 1 << 20} {
				content := strings.Repeat("0123456789abcdef", n/16+1)[:n]
				c.ok("write", os.WriteFile(c.p("f"), []byte(content), 0o644))
				c.has("f", content)
				eq(c, "size", c.stat("f").Size, int64(n))
			}
		}},
		{"io", "overwrites in the middle", func(c *C) {
			content := []byte(fill('a', 20000))
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(fd, string(content))
			for off := 100; off < 19000; off += 1777 {
				c.pwrite(fd, fill('b', 333), int64(off))
				copy(content[off:], fill('b', 333))
			}
			c.has("f", string(content))
		}},
		{"io", "a gap reads as zeros", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.pwrite(fd, "end", 100_000)
			c.has("f", zeros(100_000)+"end")
		}},
		{"io", "reading at and behind the end", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDONLY, 0)
			eq(c, "at the end", len(c.pread(fd, 10, 7)), 0)
			eq(c, "behind", len(c.pread(fd, 10, 1<<40)), 0)
			c.same("across", c.pread(fd, 10, 4), "ent")
		}},
		{"io", "negative offset", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.is("pread", one(unix.Pread(fd, make([]byte, 1), -1)), unix.EINVAL)
			c.is("pwrite", one(unix.Pwrite(fd, make([]byte, 1), -1)), unix.EINVAL)
		}},
		{"io", "descriptors have offsets of their own, duplicates share one", func(c *C) {
			c.file("f", "0123456789")
			a, b := c.open("f", unix.O_RDONLY, 0), c.open("f", unix.O_RDONLY, 0)
			d, err := unix.Dup(a)
			c.ok("dup", err)
			c.fds[d] = true
			buf := make([]byte, 3)
			for _, x := range []struct {
				fd   int
				want string
			}{{a, "012"}, {b, "012"}, {d, "345"}, {a, "678"}} {
				_, err := unix.Read(x.fd, buf)
				c.ok("read", err)
				c.same("content", buf, x.want)
			}
		}},
		{"io", "readv and writev", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			n, err := unix.Writev(fd, [][]byte{[]byte("ab"), []byte("cde"), nil, []byte("f")})
			c.ok("writev", err)
			eq(c, "written", n, 6)
			a, b := make([]byte, 4), make([]byte, 4)
			n, err = unix.Preadv(fd, [][]byte{a, b}, 0)
			c.ok("preadv", err)
			eq(c, "read", n, 6)
			c.same("content", append(a, b[:2]...), "abcdef")
		}},
		{"io", "a directory cannot be read", func(c *C) {
			c.mkdir("d", 0o755)
			fd := c.open("d", unix.O_RDONLY, 0)
			c.is("read", one(unix.Read(fd, make([]byte, 10))), unix.EISDIR)
		}},
		{"io", "sendfile", func(c *C) {
			c.file("src", fill('x', 100_000))
			src, dst := c.open("src", unix.O_RDONLY, 0), c.open("dst", unix.O_CREAT|unix.O_WRONLY, 0o644)
			for left := 100_000; left > 0; {
				n, err := unix.Sendfile(dst, src, nil, left)
				c.ok("sendfile", err)
				c.that("something was sent", n > 0)
				left -= n
			}
			c.has("dst", fill('x', 100_000))
		}},
		{"io", "splice through a pipe", func(c *C) {
			c.file("src", fill('x', 10_000))
			src, dst := c.open("src", unix.O_RDONLY, 0), c.open("dst", unix.O_CREAT|unix.O_WRONLY, 0o644)
			var p [2]int
			c.ok("pipe", unix.Pipe2(p[:], unix.O_CLOEXEC))
			c.fds[p[0]], c.fds[p[1]] = true, true
			for {
				n, err := unix.Splice(src, nil, p[1], nil, 4096, 0)
				c.ok("splice", err)
				if n == 0 {
					break
				}
				m, err := unix.Splice(p[0], nil, dst, nil, int(n), 0)
				c.ok("splice", err)
				eq(c, "moved", m, n)
			}
			c.has("dst", fill('x', 10_000))
		}},
		{"io", "two descriptors see each other's writes at once", func(c *C) {
			a, b := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644), c.open("f", unix.O_RDWR, 0)
			for i := range 100 {
				c.pwrite(a, fmt.Sprintf("%08d", i), 0)
				c.same("by the other", c.pread(b, 8, 0), fmt.Sprintf("%08d", i))
			}
		}},
		{"io", "parallel writers of different places", func(c *C) {
			c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			var wg sync.WaitGroup
			errs := make(chan error, 8)
			for w := range 8 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					errs <- withFile(c.p("f"), unix.O_RDWR, func(fd int) error {
						for i := w; i < 800; i += 8 {
							if _, err := unix.Pwrite(fd, []byte(fill(byte('a'+w), 1000)), int64(i)*1000); err != nil {
								return err
							}
						}
						return nil
					})
				}()
			}
			wg.Wait()
			for range 8 {
				c.ok("writer", <-errs)
			}
			got := c.read("f")
			eq(c, "size", len(got), 800_000)
			for i := range 800 {
				c.same("piece", got[i*1000:(i+1)*1000], fill(byte('a'+i%8), 1000))
			}
		}},
	}
}

// appendCases: O_APPEND.
func appendCases() []Case {
	return []Case{
		{"append", "goes to the end, wherever the offset is", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR|unix.O_APPEND, 0)
			_, err := unix.Seek(fd, 0, unix.SEEK_SET)
			c.ok("seek", err)
			c.write(fd, "1")
			c.ok("grow", unix.Truncate(c.p("f"), 10))
			c.write(fd, "2")
			c.has("f", "content1"+zeros(2)+"2")
		}},
		{"append", "pwrite on it appends too, as Linux does", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR|unix.O_APPEND, 0)
			c.pwrite(fd, "x", 0)
			c.has("f", "contentx")
		}},
		{"append", "many writers lose nothing", func(c *C) {
			c.file("f", "")
			var wg sync.WaitGroup
			errs := make(chan error, 8)
			for w := range 8 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					errs <- withFile(c.p("f"), unix.O_WRONLY|unix.O_APPEND, func(fd int) error {
						for range 200 {
							if _, err := unix.Write(fd, []byte(fill(byte('a'+w), 100)+"\n")); err != nil {
								return err
							}
						}
						return nil
					})
				}()
			}
			wg.Wait()
			for range 8 {
				c.ok("writer", <-errs)
			}
			lines := strings.Split(strings.TrimSuffix(string(c.read("f")), "\n"), "\n")
			eq(c, "lines", len(lines), 1600)
			for _, line := range lines {
				c.same("line", []byte(line), fill(line[0], 100))
			}
		}},
		{"append", "set later by fcntl", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDWR, 0)
			c.write(fd, "CON")
			c.ok("fcntl", one(unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND)))
			c.write(fd, "end")
			c.has("f", "CONtentend")
		}},
	}
}

// truncateCases: truncate(2) and ftruncate(2).
func truncateCases() (cases []Case) {
	for _, size := range []int64{0, 1, 4095, 4096, 4097, 10_000, 131_072, 200_000} {
		cases = append(cases, Case{"truncate", fmt.Sprintf("to %d bytes and back", size), func(c *C) {
			content := fill('x', 100_000)
			c.file("f", content)
			c.ok("truncate", unix.Truncate(c.p("f"), size))
			want := (content + zeros(200_000))[:size]
			c.has("f", want)
			c.ok("grow", unix.Truncate(c.p("f"), 250_000))
			c.has("f", want+zeros(250_000-int(size)))
		}})
	}
	return append(cases,
		Case{"truncate", "what was cut off does not come back", func(c *C) {
			fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			c.write(fd, fill('x', 10_000))
			c.ok("fsync", unix.Fsync(fd))
			c.ok("cut", unix.Ftruncate(fd, 5000))
			c.ok("fsync", unix.Fsync(fd))
			c.ok("grow", unix.Ftruncate(fd, 10_000))
			c.ok("drop pages", unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
			c.has("f", fill('x', 5000)+zeros(5000))
		}},
		Case{"truncate", "negative", func(c *C) {
			c.file("f", "")
			c.is("truncate", unix.Truncate(c.p("f"), -1), unix.EINVAL)
		}},
		Case{"truncate", "a directory", func(c *C) {
			c.mkdir("d", 0o755)
			c.is("truncate", unix.Truncate(c.p("d"), 0), unix.EISDIR)
		}},
		Case{"truncate", "a descriptor for reading", func(c *C) {
			c.file("f", "content")
			fd := c.open("f", unix.O_RDONLY, 0)
			c.is("ftruncate", unix.Ftruncate(fd, 0), unix.EINVAL)
		}},
		Case{"truncate", "what is not there", func(c *C) { c.is("truncate", unix.Truncate(c.p("f"), 0), unix.ENOENT) }},
		Case{"truncate", "through a symbolic link", func(c *C) {
			c.file("f", "content")
			c.symlink("f", "l")
			c.ok("truncate", unix.Truncate(c.p("l"), 3))
			c.has("f", "con")
		}},
	)
}
