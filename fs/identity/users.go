package identity

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// names knows users and groups by number, until the files that they come from change.
type names struct {
	mu struct {
		sync.Mutex
		looked time.Time
		stamp  stamp
		users  map[uint32]string // "": has no name
		groups map[uint32]string
		known  map[member]policy.Principal
	}
}

// member is a user with its groups. Without them they are said to be unknown.
type member struct {
	uid    uint32
	gids   string // each as four bytes
	groups bool   // gids are all there are
}

const (
	maxNames  = 8192
	maxGroups = 64          // of a user who is remembered with them
	lookAgain = time.Second // how long a change of the files may be missed
)

// stamp recognises the state of the files.
type stamp [2]struct {
	ino        uint64
	size       int64
	mtim, ctim unix.Timespec
}

func readStamp() (s stamp) {
	for i, path := range []string{"/etc/passwd", "/etc/group"} {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			s[i].ino, s[i].size, s[i].mtim, s[i].ctim = st.Ino, st.Size, st.Mtim, st.Ctim
		}
	}
	return s
}

// fresh drops what is outdated. Called with mu held.
func (n *names) fresh() {
	now := time.Now()
	if n.mu.users != nil && now.Sub(n.mu.looked) < lookAgain && len(n.mu.users)+len(n.mu.groups) < maxNames {
		return
	}
	n.mu.looked = now
	if s := readStamp(); s != n.mu.stamp || n.mu.users == nil || len(n.mu.users)+len(n.mu.groups) >= maxNames {
		n.mu.stamp, n.mu.users, n.mu.groups, n.mu.known = s, map[uint32]string{}, map[uint32]string{}, map[member]policy.Principal{}
	}
}

func (n *names) user(uid uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fresh()
	name, ok := n.mu.users[uid]
	if !ok {
		if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
			name = u.Username
		}
		n.mu.users[uid] = name
	}
	return name
}

func (n *names) group(gid uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fresh()
	name, ok := n.mu.groups[gid]
	if !ok {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10)); err == nil {
			name = g.Name
		}
		n.mu.groups[gid] = name
	}
	return name
}

// groupless is the user without its groups, which are said to be unknown. What it points to is shared.
func (n *names) groupless(uid uint32) policy.Principal { return n.remembered(member{uid: uid}, nil) }

// grouped is the user with all its groups. What it points to is shared, and the same as long as nothing else is known of them.
func (n *names) grouped(uid uint32, gids []uint32) policy.Principal {
	key := make([]byte, 0, 64)
	for _, gid := range gids {
		key = binary.NativeEndian.AppendUint32(key, gid)
	}
	return n.remembered(member{uid, string(key), true}, gids)
}

func (n *names) remembered(m member, gids []uint32) policy.Principal {
	n.mu.Lock()
	n.fresh()
	p, ok := n.mu.known[m]
	stamp := n.mu.stamp
	n.mu.Unlock()
	if ok {
		return p
	}
	p = n.principal(m.uid, gids, m.groups)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.stamp == stamp && len(n.mu.known) < maxNames && len(gids) <= maxGroups {
		n.mu.known[m] = p
	}
	return p
}

// unmapped is the uid of whom the mount's user namespace does not know.
const unmapped = ^uint32(0)

// principal is the user with its groups; known says that gids are all there are.
func (n *names) principal(uid uint32, gids []uint32, known bool) policy.Principal {
	p := policy.Principal{Account: keymgr.AccountID, Root: uid == uint32(os.Geteuid()), ARN: fmt.Sprintf("arn:aws:iam::%s:unix/uid/%d", keymgr.AccountID, uid),
		Unix: &policy.Unix{UID: uid, UnresolvedGroups: !known}}
	if p.Unix.User = n.user(uid); p.Unix.User == "" || uid == unmapped {
		p.Unix.User, p.Unix.UnresolvedUser, p.Root = "", true, false
	} else {
		p.ARN = policy.UserARN(keymgr.AccountID, p.Unix.User)
	}
	for _, gid := range gids {
		name := n.group(gid)
		if name == "" {
			p.Unix.UnresolvedGroups = true
			name = strconv.FormatUint(uint64(gid), 10)
		}
		p.Unix.Groups = append(p.Unix.Groups, name)
	}
	return p
}
