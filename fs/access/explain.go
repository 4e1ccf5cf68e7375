package access

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/meta"
)

// Explanation says how a request would be decided, and what decides.
type Explanation struct {
	Allowed   bool    `json:"allowed"` // by policies and keys; permissions apply besides
	Cause     Cause   `json:"cause,omitempty"`
	Reason    string  `json:"reason"`
	Zone      uint64  `json:"zone"`
	Directory string  `json:"directory"` // of the zone, from the volume's root
	Path      string  `json:"path,omitempty"`
	Statement int     `json:"statement,omitempty"` // of the directory's policy, from 1; 0: none decided
	Name      string  `json:"name,omitempty"`      // of the statement
	Line      int     `json:"line,omitempty"`      // of the statement
	Learning  bool    `json:"learning,omitempty"`  // allowed only as long as the zone learns
	Keys      []Right `json:"keys"`
}

// Explain decides as Decide would for a subject, records no access, and says why. The key manager is asked, and records that.
func (g *Guard) Explain(ctx context.Context, who Subject, action Action, at Target) (Explanation, error) {
	z := g.table.Load().zones[at.Zone]
	if z == nil {
		return Explanation{}, fmt.Errorf("zone %d: %w", at.Zone, meta.ErrNotFound)
	}
	var d Decision
	var err error
	if action == Admin {
		d, err = g.decideAdmin(ctx, z, z.policy, who)
	} else {
		d, err = g.decide(ctx, z, who, action, at)
	}
	if err != nil {
		return Explanation{}, err
	}
	out := Explanation{Allowed: d.Denied == nil, Reason: d.reason(), Zone: uint64(z.id), Path: d.Path, Learning: d.Learned, Keys: d.Rights}
	if out.Keys == nil {
		out.Keys = []Right{}
	}
	if d.Denied != nil {
		out.Cause = d.Denied.Cause
		out.Reason = d.Denied.Reason
	}
	if d.Policy && d.Statement.Statement >= 0 {
		out.Statement, out.Name, out.Line = d.Statement.Statement+1, d.Statement.Sid, d.Statement.Line
	}
	if dir, err := g.cfg.Meta.Path(ctx, z.dir); err == nil {
		out.Directory = string(dir)
	}
	if paths, _, err := g.paths(ctx, at); out.Path == "" && err == nil && len(paths) > 0 {
		out.Path = paths[0]
	}
	return out, nil
}

// Lessons are what a learning zone allowed, since it was mounted, that no statement does.
func (g *Guard) Lessons(id meta.ZoneID) []Lesson {
	z := g.table.Load().zones[id]
	if z == nil {
		return []Lesson{}
	}
	return z.lessons.list()
}

// Subject is a user with these groups and this program, for Explain.
func (g *Guard) Subject(uid uint32, gids []uint32, program string) Subject {
	who := Subject{Requester: Requester{UID: uid}, Principal: g.cfg.Identity.User(uid, gids)}
	if len(gids) > 0 {
		who.GID = gids[0]
	}
	who.Program.Path, who.Program.Claim = program, program
	return who
}
