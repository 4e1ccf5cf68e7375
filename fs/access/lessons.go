package access

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// Lesson is something that a learning zone allowed though no statement does.
type Lesson struct {
	User    string    `json:"user"` // name, or ARN of one without
	Action  string    `json:"action"`
	Program string    `json:"program,omitempty"` // as it was claimed
	Count   uint64    `json:"count"`
	Last    time.Time `json:"last"`
}

// maxLessons bounds what one zone learns; the rest is counted under no program.
const maxLessons = 4096

// LearntStatement is what the audit log says decided where a zone allowed something only because it learns.
const LearntStatement = "learning: no statement of the directory's policy allows it"

// Recall is Lessons with those added that events of the audit log tell of, from earlier mounts too. What both know is not counted twice. A log that is sealed to an auditor, or has refusals only, tells nothing.
func (g *Guard) Recall(id meta.ZoneID, events func(fn func(*audit.Event)) error) ([]Lesson, error) {
	old := newLessons()
	err := events(func(e *audit.Event) {
		if e.Zone != uint64(id) || e.Statement != LearntStatement {
			return
		}
		for _, r := range appendRequests(nil, e, id) {
			old.recall(&r)
		}
	})
	for _, now := range g.Lessons(id) { // those that the level did not want in the log
		old.add(now, func(a, b uint64) uint64 { return max(a, b) })
	}
	return old.list(), err
}

// recall notes a request that was allowed.
func (l *lessons) recall(r *pastRequest) {
	user := r.principal
	if _, name, ok := strings.Cut(user, ":unix/user/"); ok {
		user = name
	}
	l.add(Lesson{User: user, Action: r.action.String(), Program: r.program.Claim, Count: 1, Last: r.time.UTC()}, func(a, b uint64) uint64 { return a + b })
}

// add notes what is told of; count makes one of two numbers of uses.
func (l *lessons) add(x Lesson, count func(a, b uint64) uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	action, err := ParseAction(x.Action)
	if err != nil {
		return
	}
	k := lessonKey{x.User, action, x.Program}
	old := l.all[k]
	if old == nil && len(l.all) < maxLessons {
		l.all[k] = &x
	}
	if old == nil {
		return
	}
	if old.Count = count(old.Count, x.Count); x.Last.After(old.Last) {
		old.Last = x.Last
	}
}

type lessonKey struct {
	user    string
	action  Action
	program string
}

// lessons are what a zone has learnt since it was mounted.
type lessons struct {
	mu  sync.Mutex
	all map[lessonKey]*Lesson // guarded by mu
}

func newLessons() *lessons { return &lessons{all: map[lessonKey]*Lesson{}} }

func (l *lessons) note(who Subject, action Action, now time.Time) {
	k := lessonKey{who.Principal.ARN, action, who.Program.Claim}
	if who.Principal.Unix != nil && who.Principal.Unix.User != "" {
		k.user = who.Principal.Unix.User
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[k] == nil && len(l.all) >= maxLessons {
		k.program = ""
	}
	if l.all[k] == nil {
		l.all[k] = &Lesson{User: k.user, Action: action.String(), Program: k.program}
	}
	l.all[k].Count++
	l.all[k].Last = now.UTC()
}

func (l *lessons) list() []Lesson {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Lesson, 0, len(l.all))
	for _, x := range l.all {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b Lesson) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Program, b.Program))
	})
	return out
}
