package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

// zone is what is held in memory of a zone. It does not change: a change makes another one.
type zone struct {
	id      meta.ZoneID
	dir     meta.Ino
	keys    []string          // of its wraps
	policy  *dirpolicy.Policy // nil: none
	version uint64
	locked  bool
	dead    bool // none of its keys can be used
	closing bool // about to be one of the two
	lessons *lessons
	reasons []string // names of the policy's statements
	settled *settled // by the policy's statements
}

// disabledReason is the reason of CauseKeyState.
const disabledReason = "the key of the directory is disabled or being deleted"

// closed is why nobody may use the zone, or nil.
func (z *zone) closed() *Denied {
	switch {
	case z.locked:
		return denied(CauseLocked, "the directory is locked")
	case z.dead || z.closing:
		return denied(CauseKeyState, disabledReason)
	}
	return nil
}

// guarded says whether there is anything to decide.
func (z *zone) guarded() bool { return z.policy != nil || z.locked || z.dead || z.closing }

// strict says whether open files lose what their user loses.
func (z *zone) strict() bool { return z.policy != nil && z.policy.Strict }

// table is all zones of a volume at one moment.
type table struct {
	zones   map[meta.ZoneID]*zone
	guarded bool // any of them is
}

func (t *table) finish() *table {
	t.guarded = false
	for _, z := range t.zones {
		t.guarded = t.guarded || z.guarded()
	}
	return t
}

// load reads a zone with its policy.
func load(ctx context.Context, store *meta.Store, row *meta.Zone) (*zone, error) {
	z := &zone{id: row.ID, dir: row.Dir, version: row.PolicyVersion, locked: row.Locked(), lessons: newLessons(), settled: new(settled)}
	for _, w := range row.Wraps {
		z.keys = append(z.keys, w.KeyID)
	}
	source, version, err := store.Policy(ctx, row.ID)
	if err != nil {
		return nil, err
	}
	z.version = version
	if source == nil {
		return z, nil
	}
	if z.policy, err = dirpolicy.Parse(source, dirpolicy.Resolver{}); err != nil {
		return nil, fmt.Errorf("policy of zone %d: %w", row.ID, err)
	}
	if z.policy.Statements != nil {
		for _, s := range z.policy.Statements.Statements() {
			z.reasons = append(z.reasons, statement(policy.Decision{Statement: s.Index, Sid: s.Sid, Line: s.Line}))
		}
	}
	return z, nil
}

// Reload reads all zones anew: after one was made, changed or removed. What is decided from then on is decided by the new ones, also about open files in strict
// zones. A policy that cannot be read is an error, and everything stays as it was.
func (g *Guard) Reload(ctx context.Context) error {
	g.change.Lock()
	defer g.change.Unlock()
	var rows []*meta.Zone
	if err := g.cfg.Meta.Zones(ctx, func(z *meta.Zone) bool { rows = append(rows, z); return true }); err != nil {
		return err
	}
	old := g.table.Load()
	t := &table{zones: make(map[meta.ZoneID]*zone, len(rows))}
	for _, row := range rows {
		z, err := load(ctx, g.cfg.Meta, row)
		if errors.Is(err, meta.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if was := old.zones[z.id]; was != nil {
			z.dead, z.closing, z.lessons = was.dead, was.closing, was.lessons
		}
		t.zones[z.id] = z
	}
	g.table.Store(t.finish())
	g.changed()
	return nil
}

// update replaces the zones for which fn returns another one.
func (g *Guard) update(fn func(z zone) zone) {
	g.change.Lock()
	defer g.change.Unlock()
	old := g.table.Load()
	t := &table{zones: make(map[meta.ZoneID]*zone, len(old.zones))}
	for id, z := range old.zones {
		next := fn(*z)
		t.zones[id] = &next
	}
	g.table.Store(t.finish())
	g.changed()
}

// Keys returns the names of the keys of all zones.
func (g *Guard) Keys() []string {
	seen := map[string]bool{}
	var all []string
	for _, z := range g.table.Load().zones {
		for _, k := range z.keys {
			if !seen[k] {
				seen[k] = true
				all = append(all, k)
			}
		}
	}
	return all
}

// Settings are what a zone's policy says about its keys and the kernel's caches.
type Settings struct {
	KeyTTL                 time.Duration // 0: the mount's
	Strict, StrictMetadata bool
}

// Settings of a zone; the zero Settings for one without a policy.
func (g *Guard) Settings(id meta.ZoneID) Settings {
	z := g.table.Load().zones[id]
	if z == nil || z.policy == nil {
		return Settings{}
	}
	return Settings{z.policy.KeyTTL, z.policy.Strict, z.policy.StrictMetadata}
}

// Active says whether there is anything to decide or to record in any zone.
func (g *Guard) Active() bool { return g.recording() || g.table.Load().guarded }

func fold(s string) string { return strings.ToLower(s) }

// ZoneState is a zone about which somebody should know: it learns, is locked, or has lost its keys.
type ZoneState struct {
	ID     meta.ZoneID
	Dir    meta.Ino
	Locked bool
	Dead   bool      // none of its keys can be used
	Learns time.Time // until when; zero: it does not
}

// States returns those zones, in order.
func (g *Guard) States() []ZoneState {
	now := g.cfg.Now()
	var all []ZoneState
	for _, z := range g.table.Load().zones {
		s := ZoneState{ID: z.id, Dir: z.dir, Locked: z.locked, Dead: z.dead}
		if z.policy != nil && z.policy.Learning(now) {
			s.Learns = z.policy.Learn
		}
		if s.Locked || s.Dead || !s.Learns.IsZero() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b ZoneState) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
