package access

import (
	"time"

	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

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

// Compare finds what would become different for these subjects and files (paths as statements see them) if a policy took the place of another; nil allows
// everything. Keys, permissions and programs are left out of it.
func Compare(old, next *dirpolicy.Policy, subjects []Subject, files []string, now time.Time) []Change {
	var all []Change
	for i := range subjects {
		for action := List; action <= SetAttr; action++ {
			var now2denied, now2allowed Change
			for _, path := range files {
				was, _ := statementsAllow(old, subjects[i], action, path, now)
				is, why := statementsAllow(next, subjects[i], action, path, now)
				switch {
				case was && !is:
					note(&now2denied, path, why)
				case is && !was:
					note(&now2allowed, path, why)
				}
			}
			for word, c := range map[string]Change{"allowed": now2allowed, "denied": now2denied} {
				if c.Files > 0 {
					c.Becomes, c.User, c.Action = word, subjects[i].Principal.Unix.User, action.String()
					all = append(all, c)
				}
			}
		}
	}
	return all
}

func note(c *Change, path, why string) {
	if c.Files++; c.Files == 1 {
		c.Path, c.Reason = path, why
	}
}

func statementsAllow(p *dirpolicy.Policy, who Subject, action Action, path string, now time.Time) (bool, string) {
	if p == nil || p.Statements == nil {
		return true, "permissions alone decide"
	}
	r := policy.Request{Principal: who.Principal, Action: "kmsfs:" + action.String(), Time: now}
	programTo(&r.Context, who.Program)
	r.Context.Text("kmsfs:Path", path)
	d := p.Statements.Evaluate(r)
	if d.Effect == policy.ImplicitDeny {
		return p.Learning(now), "no statement allows it"
	}
	return d.Effect == policy.Allow, statement(d)
}
