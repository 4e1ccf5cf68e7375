package identity

import "github.com/kmsfs/kmsfs/keymgr/policy"

// maxLooking bounds the looks at programs that wait for a filesystem.
const maxLooking = 32

// Config of a Resolver. Both say what lies on the mount that this process serves, and may be nil.
type Config struct {
	OwnPath   func(path string) bool
	OwnDevice func(device uint64) bool // st_dev
}

// Resolver finds out who asks.
type Resolver struct {
	own       func(string) bool
	ownDevice func(uint64) bool
	names     names
	digests   digests
	looking   chan struct{}
}

// New returns a Resolver.
func New(cfg Config) *Resolver {
	r := &Resolver{own: cfg.OwnPath, ownDevice: cfg.OwnDevice, looking: make(chan struct{}, maxLooking)}
	if r.own == nil {
		r.own = func(string) bool { return false }
	}
	if r.ownDevice == nil {
		r.ownDevice = func(uint64) bool { return false }
	}
	return r
}

// Principal is the user who asks, as the kernel names it. groups says whether its groups are wanted: otherwise they are said to be unknown.
func (r *Resolver) Principal(pid, uid, gid uint32, groups bool) policy.Principal {
	if !groups {
		return r.names.principal(uid, nil, false)
	}
	p, err := openProcess(pid)
	if err != nil {
		return r.names.principal(uid, []uint32{gid}, false)
	}
	defer p.close()
	gids, err := p.groups(uid, gid)
	if err != nil {
		return r.names.principal(uid, []uint32{gid}, false)
	}
	return r.names.principal(uid, gids, true)
}

// User is a user with the given groups, who asks for nothing now: for explanations.
func (r *Resolver) User(uid uint32, gids []uint32) policy.Principal {
	return r.names.principal(uid, gids, true)
}
