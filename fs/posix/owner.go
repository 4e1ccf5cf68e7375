package posix

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// setgidCases: what is made in a set-group-id directory belongs to its group.
func setgidCases() (cases []Case) {
	makers := []struct {
		name string
		make func(c *C, path string) error
		dir  bool
	}{
		{"file", func(c *C, p string) error { return tryOpen(p, unix.O_CREAT|unix.O_WRONLY) }, false},
		{"directory", func(c *C, p string) error { return unix.Mkdir(p, 0o755) }, true},
		{"fifo", func(c *C, p string) error { return unix.Mkfifo(p, 0o644) }, false},
		{"symlink", func(c *C, p string) error { return unix.Symlink("x", p) }, false},
	}
	for _, m := range makers {
		cases = append(cases, Case{"setgid", m.name + " inherits the group", func(c *C) {
			c.mkdir("d", 0o755)
			c.own("d", alice.uid, team, 0o2777)
			c.as(carol, func() { c.ok("make", m.make(c, c.p("d/x"))) })
			st := c.lstat("d/x")
			eq(c, "group", st.Gid, team)
			eq(c, "owner", st.Uid, uint32(carol.uid))
			eq(c, "set-group-id bit", st.Mode&unix.S_ISGID != 0, m.dir)
		}}, Case{"setgid", m.name + " has the caller's group otherwise", func(c *C) {
			c.mkdir("d", 0o755)
			c.own("d", alice.uid, team, 0o777)
			c.as(carol, func() { c.ok("make", m.make(c, c.p("d/x"))) })
			eq(c, "group", c.lstat("d/x").Gid, uint32(carol.gid))
		}})
	}
	return append(cases,
		Case{"setgid", "creating with the bit, not in the group, loses it", func(c *C) {
			unix.Umask(0)
			c.mkdir("d", 0o755)
			c.own("d", alice.uid, team, 0o2777)
			c.as(carol, func() { c.open("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o2775) })
			c.mode("d/f", 0o775)
		}},
		Case{"setgid", "creating with the bit, in the group, keeps it", func(c *C) {
			unix.Umask(0)
			c.mkdir("d", 0o755)
			c.own("d", alice.uid, team, 0o2777)
			c.as(bob, func() { c.open("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o2775) })
			c.mode("d/f", 0o2775)
		}},
		Case{"setgid", "creating without group execute keeps it", func(c *C) {
			unix.Umask(0)
			c.mkdir("d", 0o755)
			c.own("d", alice.uid, team, 0o2777)
			c.as(carol, func() { c.open("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o2765) })
			c.mode("d/f", 0o2765)
		}},
		Case{"setgid", "a nameless file inherits the group", func(c *C) {
			c.mkdir("d", 0o755)
			c.own("d", alice.uid, team, 0o2777)
			c.as(carol, func() { eq(c, "group", c.fstat(c.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o644)).Gid, team) })
		}},
	)
}

// suidCases: a write by somebody without privilege takes set-user-id away, and set-group-id where the group may execute.
func suidCases() (cases []Case) {
	writes := []struct {
		name string
		do   func(c *C, path string) error
	}{
		{"write", func(c *C, p string) error {
			return withFile(p, unix.O_WRONLY, func(fd int) error { return one(unix.Write(fd, []byte("x"))) })
		}},
		{"append", func(c *C, p string) error {
			return withFile(p, unix.O_WRONLY|unix.O_APPEND, func(fd int) error { return one(unix.Write(fd, []byte("x"))) })
		}},
		{"pwrite", func(c *C, p string) error {
			return withFile(p, unix.O_RDWR, func(fd int) error { return one(unix.Pwrite(fd, []byte("x"), 5)) })
		}},
		{"write with O_SYNC", func(c *C, p string) error {
			return withFile(p, unix.O_WRONLY|unix.O_SYNC, func(fd int) error { return one(unix.Write(fd, []byte("x"))) })
		}},
		{"truncate", func(c *C, p string) error { return unix.Truncate(p, 3) }},
		{"ftruncate", func(c *C, p string) error {
			return withFile(p, unix.O_RDWR, func(fd int) error { return unix.Ftruncate(fd, 100) })
		}},
		{"open with O_TRUNC", func(c *C, p string) error { return tryOpen(p, unix.O_WRONLY|unix.O_TRUNC) }},
		{"fallocate", func(c *C, p string) error {
			return withFile(p, unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, 8192) })
		}},
		{"punch", func(c *C, p string) error {
			return withFile(p, unix.O_RDWR, func(fd int) error {
				return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 2)
			})
		}},
		{"copy_file_range", func(c *C, p string) error {
			return withFile(p, unix.O_RDWR, func(fd int) error {
				src, err := unix.Open(c.p("src"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(src)
				return one(unix.CopyFileRange(src, nil, fd, nil, 4, 0))
			})
		}},
		{"chown", func(c *C, p string) error { return unix.Chown(p, -1, team) }},
	}
	modes := []struct {
		name         string
		before, user uint32
	}{
		{"set-user-id", 0o4755, 0o755}, {"set-group-id, executable", 0o2755, 0o755}, {"set-group-id, not executable", 0o2745, 0o2745}, {"both", 0o6755, 0o755},
	}
	for _, w := range writes {
		for _, m := range modes {
			cases = append(cases, Case{"suid", fmt.Sprintf("%s by the owner, %s", w.name, m.name), func(c *C) {
				c.file("src", "source")
				c.fileOf(user{alice.uid, team, nil}, "f", m.before, "content")
				c.as(alice, func() { c.ok(w.name, w.do(c, c.p("f"))) })
				c.mode("f", m.user)
			}})
		}
		cases = append(cases, Case{"suid", w.name + " by root", func(c *C) {
			c.file("src", "source")
			c.fileOf(alice, "f", 0o6755, "content")
			c.ok(w.name, w.do(c, c.p("f")))
			want := uint32(0o6755)
			if w.name == "chown" { // clears them for root too
				want = 0o755
			}
			c.mode("f", want)
		}})
	}
	return append(cases,
		Case{"suid", "a write by another user with permission", func(c *C) {
			c.fileOf(alice, "f", 0o4777, "content")
			c.as(carol, func() {
				c.ok("write", withFile(c.p("f"), unix.O_WRONLY, func(fd int) error { return one(unix.Write(fd, []byte("x"))) }))
			})
			c.mode("f", 0o777)
		}},
		Case{"suid", "chown of a directory keeps the bits", func(c *C) {
			c.dirOf(alice, "d", 0o6755)
			c.ok("chown", unix.Chown(c.p("d"), bob.uid, bob.gid))
			c.mode("d", 0o6755)
		}},
		Case{"suid", "chown to nobody new clears set-user-id all the same", func(c *C) {
			c.fileOf(alice, "f", 0o4755, "content")
			c.as(alice, func() { c.ok("chown", unix.Chown(c.p("f"), alice.uid, alice.gid)) })
			c.mode("f", 0o755)
		}},
		Case{"suid", "chown that changes nothing clears set-user-id", func(c *C) {
			c.fileOf(alice, "f", 0o4755, "content")
			c.as(alice, func() { c.ok("chown", unix.Chown(c.p("f"), -1, -1)) })
			c.mode("f", 0o755)
		}},
		Case{"suid", "chown by the owner outside of the group clears set-group-id without group execute", func(c *C) {
			c.fileOf(user{alice.uid, carol.gid, nil}, "f", 0o2745, "content")
			c.as(alice, func() { c.ok("chown", unix.Chown(c.p("f"), alice.uid, -1)) })
			c.mode("f", 0o745)
		}},
		Case{"suid", "reading keeps the bits", func(c *C) {
			c.fileOf(alice, "f", 0o6755, "content")
			c.as(carol, func() { c.has("f", "content") })
			c.mode("f", 0o6755)
		}},
	)
}

// withFile opens a file, and closes it after fn.
func withFile(path string, flags int, fn func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	err = fn(fd)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	return err
}

// one drops a count.
func one[T any](_ T, err error) error { return err }

// chownCases: who may give what to whom.
func chownCases() []Case {
	try := func(name string, who user, uid, gid int, want unix.Errno) Case {
		return Case{"chown", name, func(c *C) {
			c.fileOf(alice, "f", 0o644, "content")
			c.as(who, func() { c.is("chown", unix.Chown(c.p("f"), uid, gid), want) })
			st := c.stat("f")
			wantUID, wantGID := uint32(alice.uid), uint32(alice.gid)
			if want == 0 && uid >= 0 {
				wantUID = uint32(uid)
			}
			if want == 0 && gid >= 0 {
				wantGID = uint32(gid)
			}
			eq(c, "owner", st.Uid, wantUID)
			eq(c, "group", st.Gid, wantGID)
		}}
	}
	return []Case{
		try("root gives a file away", root, bob.uid, bob.gid, 0),
		try("root changes the owner alone", root, bob.uid, -1, 0),
		try("root changes the group alone", root, -1, bob.gid, 0),
		try("the owner may not give it away", alice, bob.uid, -1, unix.EPERM),
		try("the owner gives it to a group of hers", alice, -1, team, 0),
		try("the owner gives it to her own group", alice, -1, alice.gid, 0),
		try("the owner may not give it to a group that is not hers", alice, -1, bob.gid, unix.EPERM),
		try("the owner may name herself", alice, alice.uid, team, 0),
		try("a member of the group may not take it", bob, bob.uid, -1, unix.EPERM),
		try("somebody else may not change the group", carol, -1, carol.gid, unix.EPERM),
		try("changing nothing is allowed to everybody", carol, -1, -1, 0),
		{"chown", "largest ids", func(c *C) {
			c.file("f", "")
			c.ok("chown", unix.Chown(c.p("f"), 0xfffffffe, 0xfffffffe))
			st := c.stat("f")
			eq(c, "owner", st.Uid, 0xfffffffe)
			eq(c, "group", st.Gid, 0xfffffffe)
		}},
		{"chown", "follows a symbolic link", func(c *C) {
			c.file("f", "")
			c.symlink("f", "l")
			c.ok("chown", unix.Chown(c.p("l"), alice.uid, alice.gid))
			eq(c, "owner of the file", c.stat("f").Uid, uint32(alice.uid))
			eq(c, "owner of the link", c.lstat("l").Uid, 0)
		}},
		{"chown", "lchown changes the link", func(c *C) {
			c.file("f", "")
			c.symlink("f", "l")
			c.ok("lchown", unix.Lchown(c.p("l"), alice.uid, alice.gid))
			eq(c, "owner of the file", c.stat("f").Uid, 0)
			eq(c, "owner of the link", c.lstat("l").Uid, uint32(alice.uid))
		}},
		{"chown", "fchown of an unlinked file", func(c *C) {
			c.file("f", "")
			fd := c.open("f", unix.O_RDONLY, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.ok("fchown", unix.Fchown(fd, alice.uid, alice.gid))
			eq(c, "owner", c.fstat(fd).Uid, uint32(alice.uid))
		}},
		{"chown", "a new owner has the owner's rights at once", func(c *C) {
			c.fileOf(alice, "f", 0o600, "content")
			c.as(bob, func() { c.is("open", tryOpen(c.p("f"), unix.O_RDONLY), unix.EACCES) })
			c.ok("chown", unix.Chown(c.p("f"), bob.uid, bob.gid))
			c.as(bob, func() { c.ok("open", tryOpen(c.p("f"), unix.O_RDONLY)) })
			c.as(alice, func() { c.is("open", tryOpen(c.p("f"), unix.O_RDONLY), unix.EACCES) })
		}},
	}
}

// chmodCases: who may change bits, and which.
func chmodCases() []Case {
	return []Case{
		{"chmod", "all bits of a file", func(c *C) {
			c.file("f", "")
			for _, mode := range []uint32{0, 0o777, 0o7777, 0o1000, 0o4000, 0o2000, 0o644} {
				c.ok("chmod", unix.Chmod(c.p("f"), mode))
				c.mode("f", mode)
			}
		}},
		{"chmod", "all bits of a directory", func(c *C) {
			c.mkdir("d", 0o755)
			for _, mode := range []uint32{0, 0o777, 0o7777, 0o755} {
				c.ok("chmod", unix.Chmod(c.p("d"), mode))
				c.mode("d", mode)
			}
		}},
		{"chmod", "the owner may", func(c *C) {
			c.fileOf(alice, "f", 0o644, "")
			c.as(alice, func() { c.ok("chmod", unix.Chmod(c.p("f"), 0o600)) })
			c.mode("f", 0o600)
		}},
		{"chmod", "a member of the group may not", func(c *C) {
			c.fileOf(user{alice.uid, team, nil}, "f", 0o666, "")
			c.as(bob, func() { c.is("chmod", unix.Chmod(c.p("f"), 0o600), unix.EPERM) })
		}},
		{"chmod", "set-group-id by an owner outside of the group is dropped", func(c *C) {
			c.fileOf(user{alice.uid, carol.gid, nil}, "f", 0o755, "")
			c.as(alice, func() { c.ok("chmod", unix.Chmod(c.p("f"), 0o2755)) })
			c.mode("f", 0o755)
		}},
		{"chmod", "set-group-id by an owner in the group stays", func(c *C) {
			c.fileOf(user{alice.uid, team, nil}, "f", 0o755, "")
			c.as(alice, func() { c.ok("chmod", unix.Chmod(c.p("f"), 0o2755)) })
			c.mode("f", 0o2755)
		}},
		{"chmod", "follows a symbolic link", func(c *C) {
			c.file("f", "")
			c.symlink("f", "l")
			c.ok("chmod", unix.Chmod(c.p("l"), 0o600))
			c.mode("f", 0o600)
			c.mode("l", 0o777)
		}},
		{"chmod", "fchmod of an unlinked file", func(c *C) {
			c.file("f", "")
			fd := c.open("f", unix.O_RDONLY, 0)
			c.ok("unlink", unix.Unlink(c.p("f")))
			c.ok("fchmod", unix.Fchmod(fd, 0o600))
			eq(c, "mode", c.fstat(fd).Mode&0o7777, 0o600)
		}},
		{"chmod", "of a name that is not there", func(c *C) { c.is("chmod", unix.Chmod(c.p("f"), 0o600), unix.ENOENT) }},
		{"chmod", "below a file", func(c *C) {
			c.file("f", "")
			c.is("chmod", unix.Chmod(c.p("f/x"), 0o600), unix.ENOTDIR)
		}},
	}
}

// accessCases: access(2) goes by the real ids and the bits.
func accessCases() (cases []Case) {
	for _, mode := range []uint32{0o444, 0o222, 0o111, 0o777, 0o000} {
		for _, ask := range []struct {
			name string
			bits uint32
		}{{"read", 4}, {"write", 2}, {"execute", 1}} {
			cases = append(cases, Case{"access", fmt.Sprintf("%s of mode %03o", ask.name, mode), func(c *C) {
				c.fileOf(alice, "f", mode, "")
				var want unix.Errno
				if mode&ask.bits == 0 {
					want = unix.EACCES
				}
				c.as(alice, func() { c.is("access", unix.Access(c.p("f"), ask.bits), want) })
				c.as(carol, func() { c.is("access by others", unix.Access(c.p("f"), ask.bits), want) })
			}})
		}
	}
	return append(cases, Case{"access", "existence", func(c *C) {
		c.fileOf(alice, "f", 0, "")
		c.as(carol, func() {
			c.ok("access", unix.Access(c.p("f"), 0))
			c.is("access", unix.Access(c.p("g"), 0), unix.ENOENT)
		})
	}})
}
