package server

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// users knows the users of the host by number, for policies. What it found holds until the files that it comes from change. A user or group that has no name there
// may have one in a directory service that this process does not see, so it is not known who that is.
type users struct {
	owner int // uid of the owner of the key store

	mu struct {
		sync.Mutex
		stamp stamp
		known map[[2]int]policy.Principal
	}
}

// maxUsers bounds what is kept.
const maxUsers = 4096

// stamp recognises the state of the files that names come from.
type stamp [2]struct {
	ino         uint64
	size        int64
	mtim, ctim  unix.Timespec
	unavailable bool
}

func readStamp() (s stamp) {
	for i, path := range []string{"/etc/passwd", "/etc/group"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			s[i].unavailable = true
			continue
		}
		s[i].ino, s[i].size, s[i].mtim, s[i].ctim = st.Ino, st.Size, st.Mtim, st.Ctim
	}
	return s
}

// principal is the user of a process: uid, and gid beside the groups of that user.
func (u *users) principal(uid, gid int) policy.Principal {
	now := readStamp()
	k := [2]int{uid, gid}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mu.known == nil || u.mu.stamp != now || len(u.mu.known) >= maxUsers {
		u.mu.known, u.mu.stamp = map[[2]int]policy.Principal{}, now
	}
	p, ok := u.mu.known[k]
	if !ok {
		p = u.lookUp(uid, gid)
		u.mu.known[k] = p
	}
	return p
}

func (u *users) lookUp(uid, gid int) policy.Principal {
	p := policy.Principal{ARN: principal(uid), Account: keymgr.AccountID, Root: uid == u.owner, Unix: &policy.Unix{UID: uint32(uid)}}
	found, err := user.LookupId(strconv.Itoa(uid))
	gids := []string{strconv.Itoa(gid)}
	if err != nil {
		p.Unix.UnresolvedUser, p.Unix.UnresolvedGroups = true, true
	} else {
		p.Unix.User = found.Username
		p.ARN = policy.UserARN(keymgr.AccountID, found.Username)
		more, err := found.GroupIds()
		p.Unix.UnresolvedGroups = err != nil
		gids = append(gids, more...)
	}
	seen := map[string]bool{}
	for _, id := range gids {
		if seen[id] {
			continue
		}
		seen[id] = true
		g, err := user.LookupGroupId(id)
		if err != nil {
			p.Unix.UnresolvedGroups = true
			p.Unix.Groups = append(p.Unix.Groups, id)
			continue
		}
		p.Unix.Groups = append(p.Unix.Groups, g.Name)
	}
	return p
}

// principal is the ARN of a user of the host that has no name.
func principal(uid int) string {
	return fmt.Sprintf("arn:aws:iam::%s:unix/uid/%d", keymgr.AccountID, uid)
}

// self is keyd as the caller of what it does by itself.
func (s *server) self() keymgr.Caller {
	by := keymgr.Caller{UID: os.Geteuid(), GID: os.Getegid(), PID: os.Getpid(), Who: s.users.principal(os.Geteuid(), os.Getegid())}
	by.Principal = by.Who.ARN
	return by
}
