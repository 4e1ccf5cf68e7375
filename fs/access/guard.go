package access

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/fs/identity"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/fair"
	"github.com/kmsfs/kmsfs/meta"
)

// KeyManager decides about keys: keymgr/client.Client is one.
type KeyManager interface {
	Authorize(ctx context.Context, by keymgr.Caller, in keymgr.AuthorizeInput) (keymgr.Authorization, error)
}

// Config is what New needs. Meta, Keys and Identity are required.
type Config struct {
	Meta     *meta.Store
	Keys     KeyManager
	Identity *identity.Resolver
	Recorder audit.Recorder // nil: decisions are not recorded here
	Level    audit.Level    // of zones without a policy; "" is audit.LevelAccess
	Now      func() time.Time
}

// Guard decides for all zones of a mount.
type Guard struct {
	cfg    Config
	volume string
	change sync.Mutex // of table
	table  atomic.Pointer[table]
	// generation counts the changes after which a decision may be another one.
	generation atomic.Uint64
	answers    answers
	asking     *fair.Turns[int] // by uid
	tokens     heldTokens
	denials    denials
	places     places
	events     sync.Pool // of *audit.Event, between two records
}

// New returns the guard of a volume, whose zones it reads. Errors: meta.ErrAuth (a policy that is not the one that was set), others of package meta.
func New(ctx context.Context, cfg Config) (*Guard, error) {
	if cfg.Meta == nil || cfg.Keys == nil || cfg.Identity == nil {
		return nil, errors.New("new guard: incomplete configuration")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &Guard{cfg: cfg, volume: cfg.Meta.Volume().String(), asking: fair.New[int](maxAsking, maxUserAsking)}
	g.table.Store(&table{})
	g.answers.reset()
	return g, g.Reload(ctx)
}

// changed makes all decisions that were made before void.
func (g *Guard) changed() {
	g.generation.Add(1)
	g.answers.reset()
}

// Changed takes note of a change at the key manager; states are those of Keys. died are the zones that have lost the last of their keys: they are closed from now
// on, and their keys have to be taken out of memory. Those that have one again are open: revived.
func (g *Guard) Changed(states map[string]string) (died, revived []meta.ZoneID) {
	g.update(func(z zone) zone {
		alive, known := false, false
		for _, k := range z.keys {
			state, ok := states[k]
			known = known || ok
			alive = alive || state == keymgr.StateEnabled
		}
		if known && !alive && !z.dead {
			died = append(died, z.id)
		}
		if known && alive && z.dead {
			revived = append(revived, z.id)
		}
		if known {
			z.dead = !alive
		}
		return z
	})
	return died, revived
}

// Close refuses everything new in zones that are about to be locked; Reopen takes it back.
func (g *Guard) Close(ids ...meta.ZoneID) { g.setClosing(true, ids) }

// Reopen is the end of Close: what the zones' rows say counts again, after Reload.
func (g *Guard) Reopen(ids ...meta.ZoneID) { g.setClosing(false, ids) }

func (g *Guard) setClosing(on bool, ids []meta.ZoneID) {
	g.update(func(z zone) zone {
		for _, id := range ids {
			if z.id == id {
				z.closing = on
			}
		}
		return z
	})
}
