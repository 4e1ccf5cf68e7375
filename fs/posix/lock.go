package posix

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Helper is the other process of cases that need one: PATH KIND, where KIND is flock, posix or ofd, then -ex or -sh. It opens the file, tries to lock
// it, says "ok" or the errno on standard output, and holds the lock until standard input ends.
func Helper(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: PATH KIND")
	}
	fd, err := unix.Open(args[0], unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	answer := "ok"
	if err := tryLock(fd, args[1]); err != nil {
		e, _ := errno(err)
		answer = errnoText(e)
	}
	fmt.Println(answer)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func tryLock(fd int, kind string) error {
	switch kind {
	case "flock-ex":
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	case "flock-sh":
		return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
	case "posix-ex":
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	case "posix-sh":
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	case "ofd-ex":
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	case "ofd-sh":
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	return fmt.Errorf("kind %q", kind)
}

// other is a running Helper.
type other struct {
	answer string
	end    func() // lets go of the lock by ending
	kill   func() // by dying
}

func (c *C) other(path, kind string) other {
	if c.helper == nil {
		c.skipf("no helper process")
	}
	cmd := c.helper(path, kind)
	in, err := cmd.StdinPipe()
	c.ok("pipe", err)
	out, err := cmd.StdoutPipe()
	c.ok("pipe", err)
	c.ok("start", cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	c.ok("answer", err)
	ended := false
	o := other{answer: strings.TrimSpace(line)}
	o.end = func() {
		if !ended {
			ended = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	o.kill = func() {
		_ = cmd.Process.Kill()
		o.end()
	}
	c.cleanup(o.end)
	return o
}

// lockCases: flock(2), POSIX and open file description locks.
func lockCases() (cases []Case) {
	for _, kind := range []string{"flock", "posix", "ofd"} {
		for _, k := range []struct{ mine, others, want string }{
			{"ex", "ex", "EAGAIN"}, {"ex", "sh", "EAGAIN"}, {"sh", "ex", "EAGAIN"}, {"sh", "sh", "ok"},
		} {
			cases = append(cases, Case{"locks", fmt.Sprintf("%s %s against %s of another process", kind, k.mine, k.others), func(c *C) {
				c.file("f", "")
				c.ok("lock", tryLock(c.open("f", unix.O_RDWR, 0), kind+"-"+k.mine))
				eq(c, "the other's", c.other(c.p("f"), kind+"-"+k.others).answer, k.want)
			}})
		}
		cases = append(cases, Case{"locks", kind + " goes with the process that ends, and that is killed", func(c *C) {
			c.file("f", "")
			fd := c.open("f", unix.O_RDWR, 0)
			for _, how := range []string{"end", "kill"} {
				o := c.other(c.p("f"), kind+"-ex")
				eq(c, "the other's", o.answer, "ok")
				c.is("mine meanwhile", tryLock(fd, kind+"-ex"), unix.EAGAIN)
				if how == "end" {
					o.end()
				} else {
					o.kill()
				}
				c.ok("mine afterwards", tryLock(fd, kind+"-ex"))
				c.ok("unlock", unlock(fd, kind))
			}
		}})
	}
	return append(cases, moreLockCases()...)
}

func unlock(fd int, kind string) error {
	switch kind {
	case "flock":
		return unix.Flock(fd, unix.LOCK_UN)
	case "ofd":
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
	}
	return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

func moreLockCases() []Case {
	ofd := func(fd int, kind int16, start, n int64) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: n})
	}
	return []Case{
		{"locks", "flock is of the open file, not of the process", func(c *C) {
			c.file("f", "")
			a, b := c.open("f", unix.O_RDWR, 0), c.open("f", unix.O_RDWR, 0)
			c.ok("lock", unix.Flock(a, unix.LOCK_EX))
			c.is("lock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
			c.close(a)
			c.ok("lock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
		}},
		{"locks", "flock from shared to exclusive and back", func(c *C) {
			c.file("f", "")
			a, b := c.open("f", unix.O_RDWR, 0), c.open("f", unix.O_RDWR, 0)
			c.ok("lock", unix.Flock(a, unix.LOCK_SH))
			c.ok("lock", unix.Flock(b, unix.LOCK_SH))
			c.is("upgrade", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
			c.ok("unlock", unix.Flock(b, unix.LOCK_UN))
			c.ok("upgrade", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
		}},
		{"locks", "flock waits", func(c *C) {
			c.file("f", "")
			a := c.open("f", unix.O_RDWR, 0)
			c.ok("lock", unix.Flock(a, unix.LOCK_EX))
			got := make(chan error, 1)
			go func() {
				got <- withFile(c.p("f"), unix.O_RDWR, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) })
			}()
			tick()
			select {
			case <-got:
				c.failf("it did not wait")
			default:
			}
			c.ok("unlock", unix.Flock(a, unix.LOCK_UN))
			c.ok("lock", <-got)
		}},
		{"locks", "open file description locks conflict by range", func(c *C) {
			c.file("f", "")
			a, b := c.open("f", unix.O_RDWR, 0), c.open("f", unix.O_RDWR, 0)
			c.ok("lock", ofd(a, unix.F_WRLCK, 0, 100))
			c.ok("another range", ofd(b, unix.F_WRLCK, 100, 100))
			c.is("the same range", ofd(b, unix.F_WRLCK, 50, 10), unix.EAGAIN)
			c.is("to the end", ofd(b, unix.F_RDLCK, 0, 0), unix.EAGAIN)
			c.ok("unlock a part", ofd(a, unix.F_UNLCK, 50, 10))
			c.ok("that part", ofd(b, unix.F_WRLCK, 50, 10))
		}},
		{"locks", "open file description locks are told about", func(c *C) {
			c.file("f", "")
			a, b := c.open("f", unix.O_RDWR, 0), c.open("f", unix.O_RDWR, 0)
			c.ok("lock", ofd(a, unix.F_WRLCK, 10, 20))
			lk := unix.Flock_t{Type: unix.F_RDLCK}
			c.ok("ask", unix.FcntlFlock(uintptr(b), unix.F_OFD_GETLK, &lk))
			eq(c, "type", lk.Type, unix.F_WRLCK)
			eq(c, "start", lk.Start, 10)
			eq(c, "length", lk.Len, 20)
		}},
		{"locks", "open file description locks go with the last descriptor", func(c *C) {
			c.file("f", "")
			a, b := c.open("f", unix.O_RDWR, 0), c.open("f", unix.O_RDWR, 0)
			c.ok("lock", ofd(a, unix.F_WRLCK, 0, 0))
			d, err := unix.Dup(a)
			c.ok("dup", err)
			c.fds[d] = true
			c.close(a)
			c.is("one is left", ofd(b, unix.F_WRLCK, 0, 0), unix.EAGAIN)
			c.close(d)
			c.ok("none is left", ofd(b, unix.F_WRLCK, 0, 0))
		}},
		{"locks", "POSIX locks go when any descriptor of the file is closed", func(c *C) {
			c.file("f", "")
			a := c.open("f", unix.O_RDWR, 0)
			c.ok("lock", tryLock(a, "posix-ex"))
			c.close(c.open("f", unix.O_RDWR, 0))
			eq(c, "the other's", c.other(c.p("f"), "posix-ex").answer, "ok")
		}},
		{"locks", "POSIX writing lock on a descriptor for reading", func(c *C) {
			c.file("f", "")
			c.is("lock", tryLock(c.open("f", unix.O_RDONLY, 0), "posix-ex"), unix.EBADF)
		}},
		{"locks", "of an unlinked file, and across rename", func(c *C) {
			c.file("f", "")
			a := c.open("f", unix.O_RDWR, 0)
			c.ok("lock", unix.Flock(a, unix.LOCK_EX))
			c.ok("rename", unix.Rename(c.p("f"), c.p("g")))
			b := c.open("g", unix.O_RDWR, 0)
			c.is("lock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
			c.ok("unlink", unix.Unlink(c.p("g")))
			c.is("lock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
		}},
		{"locks", "leases are refused or given, and never lost", func(c *C) {
			c.file("f", "")
			fd := c.open("f", unix.O_RDONLY, 0)
			err := one(unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK))
			if err == nil {
				c.ok("give back", one(unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)))
				return
			}
			c.anyOf("lease", err, unix.EINVAL, unix.EAGAIN)
		}},
	}
}
