package posix

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// permissionCases: what the bits of a file or directory allow to its owner, its group, members of the group by a supplementary group, and others. Each
// class is decided by its own bits alone, also where another class has more.
func permissionCases() (cases []Case) {
	classes := []struct {
		name  string
		shift uint
		actor user
	}{
		{"owner", 6, alice}, {"group", 3, user{61009, team, nil}}, {"supplementary group", 3, bob}, {"other", 0, carol},
	}
	for _, op := range permissionOps() {
		for _, class := range classes {
			for _, allowed := range []bool{true, false} {
				word := map[bool]string{true: "allowed", false: "denied"}[allowed]
				cases = append(cases, Case{"permissions", fmt.Sprintf("%s, %s, %s", op.name, class.name, word), func(c *C) {
					mode := op.bits << class.shift
					if !allowed { // everybody else may
						mode = op.bits * 0o111 &^ (op.bits << class.shift)
					}
					op.run(c, mode, func(what string, try func() error) {
						var want unix.Errno
						if !allowed {
							want = unix.EACCES
						}
						c.as(class.actor, func() { c.is(what, try(), want) })
					})
				}})
			}
		}
	}
	return append(cases, capabilityCases()...)
}

// permissionOp is something that needs permission bits.
type permissionOp struct {
	name string
	bits uint32 // of one class
	run  func(c *C, mode uint32, check func(what string, try func() error))
}

func permissionOps() []permissionOp {
	onFile := func(flags int) func(*C, uint32, func(string, func() error)) {
		return func(c *C, mode uint32, check func(string, func() error)) {
			p := c.create("f", 0o600, "content")
			c.own("f", alice.uid, team, mode)
			check("open", func() error { return tryOpen(p, flags) })
		}
	}
	inDir := func(try func(dir string) error) func(*C, uint32, func(string, func() error)) {
		return func(c *C, mode uint32, check func(string, func() error)) {
			c.mkdir("d", 0o700)
			c.file("d/f", "content")
			c.own("d", alice.uid, team, mode)
			check("try", func() error { return try(c.p("d")) })
		}
	}
	return []permissionOp{
		{"open for reading", 4, onFile(unix.O_RDONLY)},
		{"open for writing", 2, onFile(unix.O_WRONLY)},
		{"open for both", 6, onFile(unix.O_RDWR)},
		{"truncate", 2, func(c *C, mode uint32, check func(string, func() error)) {
			p := c.create("f", 0o600, "content")
			c.own("f", alice.uid, team, mode)
			check("truncate", func() error { return unix.Truncate(p, 3) })
		}},
		{"list", 4, inDir(func(d string) error { return tryOpen(d, unix.O_RDONLY|unix.O_DIRECTORY) })},
		{"search", 1, inDir(func(d string) error {
			var st unix.Stat_t
			return unix.Stat(d+"/f", &st)
		})},
		{"create in", 3, inDir(func(d string) error { return tryOpen(d+"/new", unix.O_CREAT|unix.O_WRONLY) })},
		{"mkdir in", 3, inDir(func(d string) error { return unix.Mkdir(d+"/new", 0o755) })},
		{"unlink in", 3, inDir(func(d string) error { return unix.Unlink(d + "/f") })},
		{"rename in", 3, inDir(func(d string) error { return unix.Rename(d+"/f", d+"/g") })},
		{"link in", 3, func(c *C, mode uint32, check func(string, func() error)) {
			from := c.create("f", 0o666, "content") // writable: protected_hardlinks
			c.mkdir("d", 0o700)
			c.own("d", alice.uid, team, mode)
			check("link", func() error { return unix.Link(from, c.p("d/l")) })
		}},
		{"symlink in", 3, inDir(func(d string) error { return unix.Symlink("x", d+"/l") })},
	}
}

// capabilityCases: what root may do without bits.
func capabilityCases() []Case {
	return []Case{
		{"permissions", "root reads and writes what nobody may", func(c *C) {
			p := c.fileOf(alice, "f", 0, "content")
			c.ok("open", tryOpen(p, unix.O_RDWR))
		}},
		{"permissions", "root lists and searches what nobody may", func(c *C) {
			p := c.dirOf(alice, "d", 0)
			c.ok("create", tryOpen(p+"/f", unix.O_CREAT|unix.O_WRONLY))
			eq(c, "names", c.names("d"), "f")
		}},
		{"permissions", "root does not execute what nobody may", func(c *C) {
			p := c.create("f", 0o666, "#!/bin/sh\n")
			c.is("access", unix.Access(p, unix.X_OK), unix.EACCES)
		}},
		{"permissions", "an open file goes on after its bits are gone", func(c *C) {
			c.fileOf(alice, "f", 0o600, "content")
			c.as(alice, func() {
				fd := c.open("f", unix.O_RDWR, 0)
				c.ok("chmod", unix.Chmod(c.p("f"), 0))
				c.same("content", c.pread(fd, 100, 0), "content")
				c.pwrite(fd, "more", 7)
			})
		}},
		{"permissions", "search is needed on every directory of a path", func(c *C) {
			c.mkdir("a", 0o755)
			c.mkdir("a/b", 0o755)
			c.file("a/b/f", "content")
			c.ok("chmod", unix.Chmod(c.p("a"), 0o700))
			c.as(alice, func() { c.is("open", tryOpen(c.p("a/b/f"), unix.O_RDONLY), unix.EACCES) })
		}},
		{"permissions", "a change of bits is seen at once", func(c *C) {
			p := c.create("f", 0o644, "content")
			c.as(alice, func() { c.ok("open", tryOpen(p, unix.O_RDONLY)) })
			c.ok("chmod", unix.Chmod(p, 0o600))
			c.as(alice, func() { c.is("open", tryOpen(p, unix.O_RDONLY), unix.EACCES) })
			c.ok("chmod", unix.Chmod(p, 0o644))
			c.as(alice, func() { c.ok("open", tryOpen(p, unix.O_RDONLY)) })
		}},
		{"permissions", "create with a mode that denies goes on through its descriptor", func(c *C) {
			c.ok("chmod", unix.Chmod(c.dir, 0o777))
			c.as(alice, func() {
				fd := c.open("f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0)
				c.write(fd, "content")
				c.is("open again", tryOpen(c.p("f"), unix.O_RDONLY), unix.EACCES)
			})
			c.mode("f", 0)
		}},
		{"permissions", "umask applies to files, directories, fifos", func(c *C) {
			unix.Umask(0o027)
			c.ok("create", tryOpen(c.p("f"), unix.O_CREAT|unix.O_WRONLY))
			c.ok("mkdir", unix.Mkdir(c.p("d"), 0o777))
			c.ok("mkfifo", unix.Mkfifo(c.p("p"), 0o666))
			c.mode("f", 0o640)
			c.mode("d", 0o750)
			c.mode("p", 0o640)
		}},
	}
}

// stickyCases: in a sticky directory only the owner of a file, of the directory, or root may take a name away.
func stickyCases() (cases []Case) {
	ops := []struct {
		name string
		make func(*C, user)
		try  func(*C) error
	}{
		{"unlink", func(c *C, u user) { c.fileOf(u, "d/x", 0o666, "") }, func(c *C) error { return unix.Unlink(c.p("d/x")) }},
		{"rmdir", func(c *C, u user) { c.dirOf(u, "d/x", 0o777) }, func(c *C) error { return unix.Rmdir(c.p("d/x")) }},
		{"rename away", func(c *C, u user) { c.fileOf(u, "d/x", 0o666, "") }, func(c *C) error { return unix.Rename(c.p("d/x"), c.p("d/y")) }},
		{"rename over", func(c *C, u user) {
			c.fileOf(u, "d/x", 0o666, "")
			c.fileOf(carol, "d/mine", 0o666, "")
			c.fileOf(alice, "d/alices", 0o666, "")
			c.fileOf(bob, "d/bobs", 0o666, "")
		}, nil},
	}
	for _, op := range ops {
		for _, who := range []struct {
			name      string
			actor     user
			fileOwner user
			want      unix.Errno
		}{
			{"owner of the file", bob, bob, 0}, {"owner of the directory", alice, bob, 0}, {"somebody else", carol, bob, unix.EPERM}, {"root", root, bob, 0},
		} {
			cases = append(cases, Case{"sticky", op.name + " by " + who.name, func(c *C) {
				c.dirOf(alice, "d", 0o1777)
				op.make(c, who.fileOwner)
				try := op.try
				if try == nil {
					mine := map[int]string{carol.uid: "d/mine", alice.uid: "d/alices", bob.uid: "d/bobs", 0: "d/mine"}[who.actor.uid]
					try = func(c *C) error { return unix.Rename(c.p(mine), c.p("d/x")) }
				}
				c.as(who.actor, func() { c.is(op.name, try(c), who.want) })
			}})
		}
	}
	return append(cases, Case{"sticky", "an owner may not unlink in somebody's sticky directory without write", func(c *C) {
		c.dirOf(alice, "d", 0o1755)
		c.fileOf(bob, "d/x", 0o666, "")
		c.as(bob, func() { c.is("unlink", unix.Unlink(c.p("d/x")), unix.EACCES) })
	}}, Case{"sticky", "a user may set the bit on a directory, and on a file", func(c *C) {
		c.dirOf(alice, "d", 0o755)
		c.fileOf(alice, "f", 0o644, "")
		c.as(alice, func() {
			c.ok("chmod", unix.Chmod(c.p("d"), 0o1755))
			c.ok("chmod", unix.Chmod(c.p("f"), 0o1644))
		})
		c.mode("d", 0o1755)
		c.mode("f", 0o1644)
	}})
}
