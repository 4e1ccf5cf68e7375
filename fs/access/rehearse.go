package access

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// Past is what would have become different of what was asked for, as far as the audit log has it.
type Past struct {
	Since        time.Time    `json:"since"`         // was asked for
	From         time.Time    `json:"from,omitzero"` // of the earliest request that was looked at
	Requests     int          `json:"requests"`      // that were decided by both policies
	NewlyDenied  int          `json:"newly_denied"`
	NewlyAllowed int          `json:"newly_allowed"`
	Undecided    int          `json:"undecided"` // of Requests: it depends on what was not recorded, on the key store, or the caller is nobody here now
	Sealed       int          `json:"sealed"`    // events that only an auditor's key opens
	Cut          bool         `json:"cut"`       // there is more in the log than was looked at
	LeftOut      int          `json:"left_out"`  // requests that differ, beyond maxPastChanges kinds
	Changes      []PastChange `json:"changes"`
	Unseen       []string     `json:"unseen"` // what the log cannot show, for people
}

// PastChange is what would have become different for one user, action and program.
type PastChange struct {
	Becomes string    `json:"becomes"` // "allowed" or "denied"
	User    string    `json:"user"`    // name, or ARN of one without
	Action  string    `json:"action"`
	Program string    `json:"program,omitempty"` // as it was claimed
	Count   int       `json:"count"`
	Last    time.Time `json:"last"`
	Path    string    `json:"path,omitempty"` // of the last of them, from the directory on
	Reason  string    `json:"reason"`         // of it
}

// maxPastChanges bounds the kinds of requests that are told apart.
const maxPastChanges = 4096

type pastKind struct{ becomes, user, action, program string }

// Rehearsal decides by both policies of a Swap what was asked for. It is not safe for concurrent use.
type Rehearsal struct {
	swap  *Swap
	who   func(uid, gid uint32) Subject
	past  Past
	kinds map[pastKind]*PastChange
	known map[[2]uint32]Subject
	buf   []pastRequest
}

// Rehearse begins a rehearsal; who is the user of a number, with the groups that it has now and the group that it had.
func (s *Swap) Rehearse(who func(uid, gid uint32) Subject) *Rehearsal {
	return &Rehearsal{swap: s, who: who, kinds: map[pastKind]*PastChange{}, known: map[[2]uint32]Subject{}}
}

// Add decides anew what an event of the audit log tells of, in any order. Events of other directories, and those that are no requests, do not count.
func (r *Rehearsal) Add(e *audit.Event) {
	if e.Sealed != "" {
		r.past.Sealed++
		return
	}
	r.buf = appendRequests(r.buf[:0], e, r.swap.Zone)
	for i := range r.buf {
		if r.swap.concerns(&r.buf[i]) {
			r.decide(&r.buf[i])
		}
	}
}

// concerns says whether the next policy would have decided the request: the name of its directory belongs to the zone around.
func (s *Swap) concerns(r *pastRequest) bool {
	if s.Dir == s.Around {
		return true
	}
	rest, ok := strings.CutPrefix(r.path, strings.TrimSuffix(s.Dir, "/"))
	if rest == "" {
		return ok && r.action != Create && r.action != Delete && r.action != Rename
	}
	return ok && rest[0] == '/'
}

func (r *Rehearsal) decide(p *pastRequest) {
	r.past.Requests++
	if r.past.From.IsZero() || p.time.Before(r.past.From) {
		r.past.From = p.time
	}
	who := r.subject(p)
	if who.Principal.ARN != p.principal {
		r.past.Undecided++
		return
	}
	was, is, why := r.swap.verdicts(&supposed{who: who, action: p.action, path: p.path, at: p.time, past: true})
	switch {
	case was == unknown || is == unknown || was != is && (was == byOwner || is == byOwner):
		r.past.Undecided++
	case was == is:
	case is == allowed:
		r.past.NewlyAllowed++
		r.note(p, &who, becomesAllowed, why)
	default:
		r.past.NewlyDenied++
		r.note(p, &who, becomesDenied, why)
	}
}

// subject is who asked, with the program that it was then.
func (r *Rehearsal) subject(p *pastRequest) Subject {
	id := [2]uint32{p.uid, p.gid}
	who, ok := r.known[id]
	if !ok {
		who = r.who(p.uid, p.gid)
		r.known[id] = who
	}
	who.Program = p.program
	return who
}

func (r *Rehearsal) note(p *pastRequest, who *Subject, becomes, why string) {
	k := pastKind{becomes, p.principal, p.action.String(), p.program.Claim}
	if u := who.Principal.Unix; u != nil && u.User != "" {
		k.user = u.User
	}
	c := r.kinds[k]
	if c == nil {
		if len(r.kinds) == maxPastChanges {
			r.past.LeftOut++
			return
		}
		c = &PastChange{Becomes: k.becomes, User: k.user, Action: k.action, Program: k.program}
		r.kinds[k] = c
	}
	if c.Count++; !p.time.Before(c.Last) {
		c.Last, c.Reason, c.Path = p.time.UTC(), why, ""
		if p.path != "" {
			c.Path = below(r.swap.Dir, p.path)
		}
	}
}

// Result is what was found so far: what is denied after what is allowed, the most frequent first.
func (r *Rehearsal) Result() Past {
	out := r.past
	out.Changes = make([]PastChange, 0, len(r.kinds))
	for _, c := range r.kinds {
		out.Changes = append(out.Changes, *c)
	}
	slices.SortFunc(out.Changes, func(a, b PastChange) int {
		return cmp.Or(cmp.Compare(a.Becomes, b.Becomes), cmp.Compare(b.Count, a.Count), cmp.Compare(a.User, b.User), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Program, b.Program))
	})
	return out
}
