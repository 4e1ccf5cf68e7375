package posix

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// user is somebody that a case acts as.
type user struct {
	uid, gid int
	groups   []int // supplementary
}

// Users of the cases. None of their numbers needs to be in a password file.
var (
	root  = user{0, 0, nil}
	alice = user{61001, 61001, []int{61100}} // 61100: the group "team"
	bob   = user{61002, 61002, []int{61100}}
	carol = user{61003, 61003, nil}
)

const team = 61100

// as runs fn with the credentials of u, on this thread.
func (c *C) as(u user, fn func()) {
	c.become(u)
	defer c.become(root)
	fn()
}

// become uses system calls of the thread only: Go's wrappers change the whole process. The saved user id stays root's, as the way back.
func (c *C) become(u user) {
	if u.uid == 0 {
		c.raw("setresuid", unix.SYS_SETRESUID, 0, 0, 0)
	}
	groups := make([]uint32, len(u.groups)+1)
	for i, g := range u.groups {
		groups[i] = uint32(g)
	}
	c.raw("setgroups", unix.SYS_SETGROUPS, uintptr(len(u.groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	c.raw("setresgid", unix.SYS_SETRESGID, uintptr(u.gid), uintptr(u.gid), 0)
	if u.uid != 0 {
		c.raw("setresuid", unix.SYS_SETRESUID, uintptr(u.uid), uintptr(u.uid), 0)
	}
}

func (c *C) raw(what string, call, a, b, d uintptr) {
	if _, _, e := unix.RawSyscall(call, a, b, d); e != 0 {
		c.failf("%s: %v", what, e)
	}
}
