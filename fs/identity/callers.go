package identity

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

const (
	maxCallers = 128                    // threads that are remembered; each holds a descriptor
	trustFor   = 100 * time.Millisecond // what was read of a thread, while it goes on to run the same program as the same user
	// recently: a thread that was looked at so short a time ago is still the same one, for its number is given again only after all others; and no program that decides anything is taken for granted.
	recently = 200 * time.Microsecond
)

// caller is what is remembered of a thread. Its directory in /proc is held open: it is that thread's or nobody's, whatever becomes of the number.
type caller struct {
	process  *process
	uid, gid uint32
	exe      fileID // what it ran when it was looked at
	known    bool   // exe is
	program  Program
	verified bool // program was looked at, not only claimed
	digested bool
	seen     time.Time // it was seen to run exe
	looked   time.Time // program was found out
	user     policy.Principal
	asked    time.Time // user was found out with its groups
}

// callers remembers threads. A thread waits for the answer to its request, so it is asked about by one at a time: who asks takes it out, and puts it back. The zero callers is empty.
type callers struct {
	mu    sync.Mutex
	known map[uint32]*caller // guarded by mu
}

// take gives the thread's entry to the caller alone: the remembered one, or a new one.
func (c *callers) take(pid, uid, gid uint32, now time.Time, w Wants) (*caller, error) {
	c.mu.Lock()
	t := c.known[pid]
	delete(c.known, pid)
	c.mu.Unlock()
	if t != nil && t.uid == uid && t.gid == gid && (!w.Program && t.known && now.Sub(t.seen) < recently || t.current(now)) {
		return t, nil
	}
	if t != nil {
		t.process.close()
	}
	p, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	t = &caller{process: p, uid: uid, gid: gid}
	t.current(now)
	return t, nil
}

// current looks at what the thread runs now, and says whether it still is what was remembered. What it was before is forgotten otherwise.
func (t *caller) current(now time.Time) bool {
	exe, err := identify(t.process.dir, "exe", 0)
	same := err == nil && t.known && exe == t.exe
	t.exe, t.known, t.seen = exe, err == nil, now
	return same
}

// put remembers a thread.
func (c *callers) put(pid uint32, t *caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[uint32]*caller, maxCallers)
	}
	if old := c.known[pid]; old != nil { // the number was given again meanwhile
		old.process.close()
	}
	for other, old := range c.known {
		if len(c.known) < maxCallers {
			break
		}
		old.process.close()
		delete(c.known, other)
	}
	c.known[pid] = t
}

// Wants says what has to be known of who asks.
type Wants struct {
	Groups  bool
	Program bool // verified; otherwise as it is claimed
	Digest  bool // with Program
}

// Caller finds out who asks. What it has found out counts for 100 ms more about the same thread, while that acts as the same user and group and runs the same file: a change of
// supplementary groups alone, or of the names of a program's file, is noticed then. Which file a thread runs is looked at each time where the program is wanted, else at most every 200 µs.
func (r *Resolver) Caller(ctx context.Context, pid, uid, gid uint32, w Wants) (policy.Principal, Program) {
	now := r.now()
	t, err := r.callers.take(pid, uid, gid, now, w)
	if err != nil {
		return r.names.principal(uid, []uint32{gid}, false), Program{}
	}
	var who policy.Principal
	if w.Groups {
		who = r.grouped(t, now)
	} else {
		who = r.names.groupless(uid)
	}
	return who, r.running(ctx, pid, t, w, now)
}

// grouped is the user with its groups.
func (r *Resolver) grouped(t *caller, now time.Time) policy.Principal {
	if now.Sub(t.asked) < trustFor {
		return t.user
	}
	gids, err := t.process.groups(t.uid, t.gid)
	if err != nil {
		return r.names.principal(t.uid, []uint32{t.gid}, false)
	}
	t.user, t.asked = r.names.grouped(t.uid, gids), now
	return t.user
}

// running is the thread's program, and gives the thread back.
func (r *Resolver) running(ctx context.Context, pid uint32, t *caller, w Wants, now time.Time) Program {
	if t.known && now.Sub(t.looked) < trustFor && (t.verified || !w.Program) && (t.digested || !w.Digest) {
		out := t.program
		if !w.Digest {
			out.Digest = nil
		}
		if !w.Program {
			out = Program{Claim: out.Claim} // it was not looked at for this request
		}
		r.callers.put(pid, t)
		return out
	}
	claim, err := readlinkat(t.process.dir, "exe")
	if err != nil {
		r.callers.put(pid, t)
		return Program{}
	}
	out := Program{Claim: claim}
	if w.Program {
		var dup int
		if dup, err = unix.FcntlInt(uintptr(t.process.dir), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			out = r.verify(ctx, &process{dup}, claim, w.Digest)
		}
	}
	if t.known && err == nil && (!w.Program || out.Path != "") {
		t.program, t.looked, t.verified, t.digested = out, now, w.Program, w.Digest
	}
	r.callers.put(pid, t)
	return out
}
