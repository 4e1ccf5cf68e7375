package access

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
)

// TokenLife is how long a grant token is presented for whoever uses it: as long as it can make a difference.
const TokenLife = 5 * time.Minute

// holder is whose requests a token goes with: a user's, from one session of processes.
type holder struct {
	uid     uint32
	session int
}

// heldToken is a grant token in use.
type heldToken struct {
	token string
	until time.Time
}

// maxHolders bounds who has tokens in use at a time; each has keymgr.MaxTokens at most.
const maxHolders = 1024

// heldTokens are the grant tokens in use. They are kept in memory alone.
type heldTokens struct {
	mu struct {
		sync.Mutex
		of map[holder][]heldToken
	}
}

// use keeps a token for a holder; the oldest one goes where there are too many. False if too many holders have some.
func (h *heldTokens) use(who holder, token string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other := range h.mu.of {
		h.expire(other, now)
	}
	if h.mu.of == nil {
		h.mu.of = map[holder][]heldToken{}
	}
	if _, ok := h.mu.of[who]; !ok && len(h.mu.of) >= maxHolders {
		return false
	}
	list := slices.DeleteFunc(h.mu.of[who], func(t heldToken) bool { return t.token == token })
	if len(list) >= keymgr.MaxTokens {
		list = list[1:]
	}
	h.mu.of[who] = append(list, heldToken{token, now.Add(TokenLife)})
	return true
}

// expire forgets tokens whose time is over. The caller holds the lock.
func (h *heldTokens) expire(who holder, now time.Time) {
	h.mu.of[who] = slices.DeleteFunc(h.mu.of[who], func(t heldToken) bool { return !now.Before(t.until) })
	if len(h.mu.of[who]) == 0 {
		delete(h.mu.of, who)
	}
}

// any says whether any token is in use: mostly none is, and nobody's session has to be found out.
func (h *heldTokens) any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.of) > 0
}

// of returns the tokens of a holder, and when the first of them is over.
func (h *heldTokens) of(who holder, now time.Time) (tokens []string, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(who, now)
	for _, t := range h.mu.of[who] {
		tokens = append(tokens, t.token)
		if until.IsZero() || t.until.Before(until) {
			until = t.until
		}
	}
	return tokens, until
}

// UseToken presents a grant token with the requests of the caller's user and session to the key manager, for TokenLife. It is for the key manager to say what it is worth; what is none at all has to be found out
// before. Errors: ErrNoSession, ErrTokenHolders.
func (g *Guard) UseToken(by Requester, token string) error {
	session, ok := sessionOf(by.PID)
	if !ok {
		return ErrNoSession
	}
	if !g.tokens.use(holder{by.UID, session}, token, g.cfg.Now()) {
		return ErrTokenHolders
	}
	g.changed() // what was refused before is asked again
	return nil
}

// sessionOf returns the session of a process or thread that waits for its request. It is not known (getsid(2) says 0) where the session's leader is outside of this process's PID namespace: all such sessions
// would look the same.
func sessionOf(pid uint32) (int, bool) {
	if pid == 0 {
		return 0, false
	}
	session, err := unix.Getsid(int(pid))
	return session, err == nil && session > 0
}

// presented are the tokens that go with a request of the caller, if there are any, its session then, and until when.
func (g *Guard) presented(by keymgr.Caller) (tokens []string, session int, until time.Time) {
	if !g.tokens.any() {
		return nil, 0, until
	}
	session, ok := sessionOf(uint32(by.PID))
	if !ok {
		return nil, 0, until
	}
	if tokens, until = g.tokens.of(holder{uint32(by.UID), session}, g.cfg.Now()); len(tokens) == 0 {
		return nil, 0, until
	}
	return tokens, session, until
}
