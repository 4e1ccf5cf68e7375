package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// subject is a key that is used and changed.
type subject struct {
	id, arn string
	history history
}

// mutator changes keys of its own, in an order that its seed decides.
type mutator struct {
	s      *soak
	c      *client.Client // the owner's
	rng    *rand.Rand
	keys   []*subject
	counts map[string]int // transitions made
	serial int            // of grants
	id     int
}

// step makes one change. It returns false when there was nothing to change in what was drawn.
func (m *mutator) step(ctx context.Context) bool {
	k := m.keys[m.rng.IntN(len(m.keys))]
	is := k.history.last()
	next := is
	next.grants = slices.Clone(is.grants)
	switch m.rng.IntN(8) { // grants end in two ways, and are made only for keys that are enabled
	case 0:
		return m.switchState(ctx, k, is, next)
	case 1:
		return m.deletion(ctx, k, is, next)
	case 2:
		return m.rotate(ctx, k, is, next)
	case 3:
		return m.policy(ctx, k, next)
	case 4, 5:
		return m.grant(ctx, k, is, next)
	}
	return m.retire(ctx, k, next)
}

// change makes the change that leads to next, as often as it takes: do may be cut off by an outage, and then is called again. done says whether an error means
// that it was made before.
func (m *mutator) change(ctx context.Context, k *subject, kind string, next facts, do func() error, done error) bool {
	k.history.begin(next)
	for again := false; ; again = true {
		mark := m.s.outages.mark()
		err := do()
		switch {
		case err == nil, again && done != nil && errors.Is(err, done):
			k.history.settle(next)
			m.counts[kind]++
			m.s.late.answered()
			return true
		case errors.Is(err, keymgr.ErrKeyUnavailable) && (m.s.outages.between(mark) || m.s.late.tolerates(m.s.t, err)):
			m.s.awaitDaemon(ctx)
		default:
			m.s.t.Errorf("seed %d: %s of %s: %v", m.s.seed, kind, k.id, err)
			return false
		}
	}
}

func (m *mutator) switchState(ctx context.Context, k *subject, is, next facts) bool {
	switch is.state {
	case keymgr.StateEnabled:
		next.state = keymgr.StateDisabled
		return m.change(ctx, k, "disable", next, func() error { return m.c.DisableKey(ctx, keymgr.Caller{}, k.id) }, nil)
	case keymgr.StateDisabled:
		next.state = keymgr.StateEnabled
		return m.change(ctx, k, "enable", next, func() error { return m.c.EnableKey(ctx, keymgr.Caller{}, k.id) }, nil)
	}
	return false
}

func (m *mutator) deletion(ctx context.Context, k *subject, is, next facts) bool {
	if is.state != keymgr.StatePendingDeletion {
		next.state = keymgr.StatePendingDeletion
		return m.change(ctx, k, "schedule deletion", next, func() error {
			_, err := m.c.ScheduleKeyDeletion(ctx, keymgr.Caller{}, k.id, 7)
			return err
		}, keymgr.ErrInvalidState)
	}
	next.state = keymgr.StateDisabled
	if !m.change(ctx, k, "cancel deletion", next, func() error {
		_, err := m.c.CancelKeyDeletion(ctx, keymgr.Caller{}, k.id)
		return err
	}, keymgr.ErrInvalidState) {
		return false
	}
	next.state = keymgr.StateEnabled // else the keys would be disabled most of the time
	return m.change(ctx, k, "enable", next, func() error { return m.c.EnableKey(ctx, keymgr.Caller{}, k.id) }, nil)
}

func (m *mutator) rotate(ctx context.Context, k *subject, is, next facts) bool {
	if is.state != keymgr.StateEnabled {
		return false
	}
	if is.versions >= keymgr.MaxVersions {
		return m.replace(ctx, k)
	}
	next.versions++
	return m.change(ctx, k, "rotate", next, func() error {
		md, err := m.c.DescribeKey(ctx, keymgr.Caller{}, k.id)
		switch {
		case err != nil:
			return err
		case len(md.Versions) == next.versions:
			return nil // the answer was lost, the rotation was not
		case len(md.Versions) != is.versions:
			return fmt.Errorf("%d versions, want %d or %d", len(md.Versions), is.versions, next.versions)
		}
		return m.c.RotateKeyOnDemand(ctx, keymgr.Caller{}, k.id)
	}, nil)
}

// replace puts a new key in the place of one that has all the versions a key may have.
func (m *mutator) replace(ctx context.Context, k *subject) bool {
	i := slices.Index(m.keys, k)
	fresh, err := m.s.newSubject(ctx, m.c)
	if err != nil {
		return false // in an outage; another time
	}
	m.keys[i] = fresh
	m.s.replaceSubject(k, fresh)
	return true
}

func (m *mutator) policy(ctx context.Context, k *subject, next facts) bool {
	user := m.rng.IntN(users)
	switch {
	case next.deny[user]:
		next.deny[user] = false
	case m.rng.IntN(8) == 0:
		next.deny[user] = true
	case m.rng.IntN(2) == 0:
		next.allow[user] = mayAll
	default:
		next.allow[user] = uint8(m.rng.IntN(mayAll))
	}
	document := m.s.document(next)
	return m.change(ctx, k, "policy", next, func() error {
		return m.c.PutKeyPolicy(ctx, keymgr.Caller{}, k.id, "", document, false)
	}, nil)
}

func (m *mutator) grant(ctx context.Context, k *subject, is, next facts) bool {
	if is.state != keymgr.StateEnabled || len(is.grants) >= 6 {
		return false
	}
	m.serial++
	g := grant{name: fmt.Sprintf("m%d-%d", m.id, m.serial), user: m.rng.IntN(users), set: uint8(1 + m.rng.IntN(mayAll))}
	next.grants = append(next.grants, g)
	return m.change(ctx, k, "grant", next, func() error {
		made, err := m.c.CreateGrant(ctx, keymgr.Caller{}, keymgr.CreateGrantInput{KeyID: k.id, Grantee: m.s.users[g.user].ARN, Operations: names(g.set), Name: g.name})
		next.grants[len(next.grants)-1].id = made.ID
		return err
	}, nil)
}

func (m *mutator) retire(ctx context.Context, k *subject, next facts) bool {
	if len(next.grants) == 0 {
		return false
	}
	i := m.rng.IntN(len(next.grants))
	g := next.grants[i]
	next.grants = slices.Delete(next.grants, i, i+1)
	if m.rng.IntN(2) == 0 {
		return m.change(ctx, k, "retire grant", next, func() error {
			return m.c.RetireGrant(ctx, keymgr.Caller{}, keymgr.RetireGrantInput{KeyID: k.arn, ID: g.id})
		}, keymgr.ErrNotFound)
	}
	return m.change(ctx, k, "revoke grant", next, func() error {
		return m.c.RevokeGrant(ctx, keymgr.Caller{}, k.id, g.id, false)
	}, keymgr.ErrNotFound)
}

// document is the key policy that says what the facts say.
func (s *soak) document(f facts) string {
	statements := []string{`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}`}
	for user := range users {
		principal := `"Principal":{"AWS":"` + s.users[user].ARN + `"}`
		if f.allow[user] != 0 {
			statements = append(statements, `{"Effect":"Allow",`+principal+`,"Action":["kms:`+strings.Join(names(f.allow[user]), `","kms:`)+`"],"Resource":"*"}`)
		}
		if f.deny[user] {
			statements = append(statements, `{"Effect":"Deny",`+principal+`,"Action":"kms:*","Resource":"*"}`)
		}
	}
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// addCounts sums up.
func addCounts(all, more map[string]int) {
	for kind := range maps.Keys(more) {
		all[kind] += more[kind]
	}
}
