package access

import (
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

// Swap is a policy that would take the place of another in a directory. Keys, permissions and locks are left out of what it compares.
type Swap struct {
	Was, Next *dirpolicy.Policy // nil: permissions alone decide
	Zone      meta.ZoneID       // that the directory is in, whose policy Was is
	Around    string            // that zone's directory, from the volume's root
	Dir       string            // where Next would count: the same, or below it
	Volume    string            // id
	Now       time.Time
}

// Change is what becomes different for one user and one action.
type Change struct {
	Becomes string `json:"becomes"` // "allowed" or "denied"
	User    string `json:"user"`
	Action  string `json:"action"`
	Files   int    `json:"files"`
	Path    string `json:"path"` // of one of them
	Reason  string `json:"reason"`
}

// Policy returns the policy of a zone; nil if it has none.
func (g *Guard) Policy(id meta.ZoneID) *dirpolicy.Policy {
	if z := g.table.Load().zones[id]; z != nil {
		return z.policy
	}
	return nil
}

// Level is what a zone wants recorded; "" for one that is not there.
func (g *Guard) Level(id meta.ZoneID) audit.Level {
	z := g.table.Load().zones[id]
	switch {
	case z == nil:
		return ""
	case g.level(z) == "":
		return audit.LevelAccess
	}
	return g.level(z)
}

// Compare finds what would become different for these subjects and files: paths from Dir on, "/" is Dir itself. Programs are left out of it, too.
func (s *Swap) Compare(subjects []Subject, files []string) []Change {
	var all []Change
	for i := range subjects {
		for action := List; action <= SetAttr; action++ {
			var now2denied, now2allowed Change
			for _, path := range files {
				was, is, why := s.verdicts(&supposed{who: subjects[i], action: action, path: s.full(path), at: s.Now})
				switch {
				case was == allowed && is == refused:
					note(&now2denied, path, why)
				case was == refused && is == allowed:
					note(&now2allowed, path, why)
				}
			}
			for word, c := range map[string]Change{becomesAllowed: now2allowed, becomesDenied: now2denied} {
				if c.Files > 0 {
					c.Becomes, c.User, c.Action = word, subjects[i].Principal.Unix.User, action.String()
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// What a request becomes.
const (
	becomesAllowed = "allowed"
	becomesDenied  = "denied"
)

// full is a path from Dir on as one from the volume's root on.
func (s *Swap) full(path string) string {
	if path == "/" {
		return s.Dir
	}
	return strings.TrimSuffix(s.Dir, "/") + path
}

func note(c *Change, path, why string) {
	if c.Files++; c.Files == 1 {
		c.Path, c.Reason = path, why
	}
}

// verdict is what statements alone say about a request.
type verdict uint8

const (
	refused verdict = iota
	allowed
	byOwner // the key store decides: administration that no statement decides
	unknown // it depends on what was not recorded
)

// supposed is a request that nobody makes now.
type supposed struct {
	who    Subject
	action Action
	path   string // from the volume's root; "": not known
	at     time.Time
	past   bool // what is not known is what was not recorded
}

// verdicts are those of both policies, and why the next one decides so.
func (s *Swap) verdicts(q *supposed) (was, is verdict, why string) {
	was, _ = s.verdict(s.Was, s.Around, q)
	is, why = s.verdict(s.Next, s.Dir, q)
	return was, is, why
}

// verdict is that of the policy of a directory. Conditions on the time are about the request's; learn mode counts as it does now.
func (s *Swap) verdict(p *dirpolicy.Policy, dir string, q *supposed) (verdict, string) {
	switch {
	case q.action == Lookup && (p == nil || !p.StrictMetadata):
		return allowed, "lookups are not decided"
	case (p == nil || p.Statements == nil) && q.action == Admin:
		return byOwner, "the key store decides"
	case p == nil || p.Statements == nil:
		return allowed, "permissions alone decide"
	}
	d := p.Statements.Evaluate(s.request(dir, q))
	switch {
	case d.Effect == policy.Allow:
		return allowed, statement(d)
	case q.past && (d.Unresolved || d.Effect == policy.ImplicitDeny) && (p.Digests && q.who.Program.Digest == nil || p.Paths && q.path == ""):
		return unknown, "it depends on what was not recorded"
	case d.Effect == policy.ExplicitDeny:
		return refused, statement(d)
	case q.action == Admin:
		return byOwner, "the key store decides"
	case p.Learning(s.Now):
		return allowed, "no statement allows it, but the directory learns"
	}
	return refused, "no statement allows it"
}

// request is what is supposed, as a policy of a directory sees it.
func (s *Swap) request(dir string, q *supposed) policy.Request {
	r := policy.Request{Principal: q.who.Principal, Action: q.action.qualified(), Time: q.at}
	programTo(&r.Context, q.who.Program)
	if q.path == "" {
		r.Context.Unknown("kmsfs:Path")
	} else {
		r.Context.Text("kmsfs:Path", below(dir, q.path))
	}
	r.Context.Text("kmsfs:Volume", s.Volume)
	return r
}
