package access

import (
	"cmp"
	"slices"
	"sync"
	"time"
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
