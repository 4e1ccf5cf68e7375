package identity

import (
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

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
	callers   callers
	looking   chan struct{}
	now       func() time.Time // tests have another
}

// New returns a Resolver.
func New(cfg Config) *Resolver {
	r := &Resolver{own: cfg.OwnPath, ownDevice: cfg.OwnDevice, looking: make(chan struct{}, maxLooking), now: time.Now}
	if r.own == nil {
		r.own = func(string) bool { return false }
	}
	if r.ownDevice == nil {
		r.ownDevice = func(uint64) bool { return false }
	}
	return r
}

// Named is the user of a number, without its groups, which are said to be unknown. What it points to is shared: it is not changed.
func (r *Resolver) Named(uid uint32) policy.Principal { return r.names.groupless(uid) }

// User is a user with the given groups, who asks for nothing now: for explanations. What it points to is shared: it is not changed.
func (r *Resolver) User(uid uint32, gids []uint32) policy.Principal {
	return r.names.grouped(uid, gids)
}
