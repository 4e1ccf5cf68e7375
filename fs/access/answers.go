package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/fair"
	"github.com/kmsfs/kmsfs/meta"
)

// question is what the key manager is asked. It finds out the user's groups itself.
type question struct {
	zone     meta.ZoneID
	uid, gid uint32
	right    string
	session  int // whose grant tokens are presented; 0: none
}

// answer is what it said.
type answer struct {
	denied *Denied // nil: allowed
	reason string
	key    string
	asked  time.Time
	until  time.Time // the grant's end; zero: none
}

// How long an answer counts. Changes are told at once (Guard.Changed), but for what time alone changes: a grant's end is in the answer, a date in a key's policy is
// noticed at the next question. While the key manager does not answer, allowing answers go on to count as long as the key itself may be used.
const (
	answerAge  = 30 * time.Second
	maxAnswers = 1 << 16
)

// answers are kept by question. An answer that was asked for before a reset is not kept.
type answers struct {
	mu struct {
		sync.RWMutex
		epoch uint64
		known map[question]answer
	}
}

func (a *answers) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.epoch++
	a.mu.known = map[question]answer{}
}

func (a *answers) get(q question) (ans answer, ok bool, epoch uint64) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	ans, ok = a.mu.known[q]
	return ans, ok, a.mu.epoch
}

func (a *answers) put(q question, ans answer, epoch uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.epoch != epoch {
		return
	}
	if len(a.mu.known) >= maxAnswers {
		clear(a.mu.known)
	}
	a.mu.known[q] = ans
}

// current says whether an answer still counts; away: while the key manager does not answer.
func (a *answer) current(now time.Time, away bool, ttl time.Duration) bool {
	if !a.until.IsZero() && !now.Before(a.until) {
		return false
	}
	if away {
		return a.denied == nil && now.Sub(a.asked) < ttl
	}
	return now.Sub(a.asked) < answerAge
}

// defaultTTL bounds an answer in a key manager's absence where the policy says nothing.
const defaultTTL = 15 * time.Minute

// askKeys decides whether a user has a right at one of the zone's keys. cached: nobody was asked.
func (g *Guard) askKeys(ctx context.Context, z *zone, by keymgr.Caller, right string) (ans answer, cached bool) {
	tokens, session, presented := g.presented(by)
	q := question{z.id, uint32(by.UID), uint32(by.GID), right, session}
	now := g.cfg.Now()
	old, ok, epoch := g.answers.get(q)
	if ok && old.current(now, false, 0) {
		return old, true
	}
	ans = g.authorise(ctx, z, by, right, tokens)
	ans.asked = now
	if session != 0 && (ans.until.IsZero() || presented.Before(ans.until)) {
		ans.until = presented
	}
	if ans.denied != nil && ans.denied.Cause == CauseKeyAway {
		ttl := defaultTTL
		if z.policy != nil && z.policy.KeyTTL > 0 {
			ttl = z.policy.KeyTTL
		}
		if ok && old.current(now, true, ttl) {
			return old, true
		}
		return ans, false
	}
	g.answers.put(q, ans, epoch)
	return ans, false
}

// authorise asks about each of the zone's keys until one allows it.
func (g *Guard) authorise(ctx context.Context, z *zone, by keymgr.Caller, right string, tokens []string) answer {
	encryptionContext, err := g.context(ctx, z)
	if err != nil {
		return answer{denied: keyFault(err)}
	}
	worst := answer{denied: denied(CauseKeyPolicy, "the zone has no key")}
	for i, key := range z.keys {
		a, err := g.ask(ctx, by, keymgr.AuthorizeInput{Action: right, KeyID: key, Context: encryptionContext, Tokens: tokens})
		switch {
		case err == nil && a.Allowed:
			return answer{reason: a.Reason, key: a.KeyID, until: a.Expires}
		case err == nil:
			err = a.Err()
		}
		d := keyFault(err)
		if i == 0 || d.Cause == CauseKeyAway {
			worst = answer{denied: d, reason: a.Reason, key: key}
		}
	}
	return worst
}

// Bounds of questions to the key manager that are under way at once, and of the time that one waits for its turn: a user whose questions hang must not keep
// those of others from being asked.
const (
	maxAsking     = 16
	maxUserAsking = 4
	askWithin     = 5 * time.Second
)

// ask asks the key manager when it is the user's turn.
func (g *Guard) ask(ctx context.Context, by keymgr.Caller, in keymgr.AuthorizeInput) (a keymgr.Authorization, err error) {
	waiting, cancel := awake.WithTimeout(ctx, askWithin)
	defer cancel()
	turn := fair.NewTurn[int]()
	g.asking.Want(turn, by.UID)
	if err := g.asking.Wait(waiting, turn); err != nil {
		return a, fmt.Errorf("%w: other questions of this user are not answered: %w", keymgr.ErrKeyUnavailable, err)
	}
	defer g.asking.Done(turn)
	return g.cfg.Keys.Authorize(ctx, by, in)
}

// keyFault is a key manager's refusal, or what kept it from deciding.
func keyFault(err error) *Denied {
	switch {
	case errors.Is(err, keymgr.ErrAccessDenied):
		return denied(CauseKeyPolicy, err.Error())
	case errors.Is(err, keymgr.ErrDisabled), errors.Is(err, keymgr.ErrInvalidState), errors.Is(err, keymgr.ErrNotFound), errors.Is(err, meta.ErrKeyRevoked):
		return denied(CauseKeyState, err.Error())
	}
	return denied(CauseKeyAway, err.Error())
}

// context is the encryption context of a zone's wraps.
func (g *Guard) context(ctx context.Context, z *zone) (keymgr.Context, error) {
	parent, name, err := g.cfg.Meta.ZonePlace(ctx, &meta.Zone{ID: z.id, Dir: z.dir})
	if err != nil {
		return nil, err
	}
	return meta.ZoneContext(g.cfg.Meta.Volume(), z.id, parent, name), nil
}
