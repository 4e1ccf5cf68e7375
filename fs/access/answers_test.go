package access

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/fair"
)

// TestAnswerAge: how long an answer of the key manager counts, while it answers and while it does not.
func TestAnswerAge(t *testing.T) {
	asked := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	allowed, refused := answer{asked: asked}, answer{asked: asked, denied: denied(CauseKeyPolicy, "no")}
	granted := answer{asked: asked, until: asked.Add(10 * time.Second)}
	const ttl = 15 * time.Minute
	for _, c := range []struct {
		what string
		a    answer
		age  time.Duration
		away bool
		want bool
	}{
		{"fresh", allowed, answerAge - 1, false, true},
		{"old", allowed, answerAge, false, false},
		{"old, nobody answers", allowed, answerAge, true, true},
		{"older than the key, nobody answers", allowed, ttl, true, false},
		{"refusal", refused, time.Second, false, true},
		{"old refusal, nobody answers", refused, answerAge, true, false},
		{"grant", granted, 9 * time.Second, false, true},
		{"grant that is over", granted, 10 * time.Second, false, false},
		{"grant that is over, nobody answers", granted, 10 * time.Second, true, false},
	} {
		if got := c.a.current(asked.Add(c.age), c.away, ttl); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// TestAnswersReset: an answer that was asked for before a change is not kept after it.
func TestAnswersReset(t *testing.T) {
	var a answers
	a.reset()
	q := question{zone: 1, uid: 2, gid: 3, right: "kms:Decrypt"}
	_, _, epoch := a.get(q)
	a.reset() // a grant is revoked while the question is under way
	a.put(q, answer{reason: "grant"}, epoch)
	if _, ok, _ := a.get(q); ok {
		t.Error("an answer from before the change is kept")
	}
	_, _, epoch = a.get(q)
	a.put(q, answer{reason: "policy"}, epoch)
	if got, ok, _ := a.get(q); !ok || got.reason != "policy" {
		t.Errorf("%+v %v", got, ok)
	}
}

func TestBelow(t *testing.T) {
	for _, c := range [][3]string{{"/", "/", "/"}, {"/", "/a/b", "/a/b"}, {"/a", "/a", "/"}, {"/a", "/a/b", "/b"}, {"/a", "/ab", "/ab"}} {
		if got := below(c[0], c[1]); got != c[2] {
			t.Errorf("%s below %s is %s, want %s", c[1], c[0], got, c[2])
		}
	}
}

// crowded is a key manager that answers so many questions at once, and whose answers to one user do not come.
type crowded struct {
	places  chan struct{}
	hanging int
	entered chan struct{}
}

func (c *crowded) Authorize(ctx context.Context, by keymgr.Caller, _ keymgr.AuthorizeInput) (keymgr.Authorization, error) {
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return keymgr.Authorization{}, ctx.Err()
	}
	if by.UID == c.hanging {
		c.entered <- struct{}{}
		<-ctx.Done()
		return keymgr.Authorization{}, ctx.Err()
	}
	return keymgr.Authorization{Allowed: true}, nil
}

// TestQuestionsTakeTurns: a user whose questions hang, more of them than the key manager takes at once, does not keep another's from being answered.
func TestQuestionsTakeTurns(t *testing.T) {
	keys := &crowded{places: make(chan struct{}, maxAsking), hanging: 1000, entered: make(chan struct{}, 100)}
	g := &Guard{cfg: Config{Keys: keys}, asking: fair.New[int](maxAsking, maxUserAsking)}
	hang, end := context.WithCancel(t.Context())
	defer end()
	ended := make(chan error, 3*maxAsking)
	for range 3 * maxAsking {
		go func() {
			_, err := g.ask(hang, keymgr.Caller{UID: 1000}, keymgr.AuthorizeInput{})
			ended <- err
		}()
	}
	for range maxUserAsking {
		<-keys.entered
	}
	for range 100 {
		if a, err := g.ask(t.Context(), keymgr.Caller{UID: 2000}, keymgr.AuthorizeInput{}); err != nil || !a.Allowed {
			t.Fatalf("another user's question: %+v, %v", a, err)
		}
	}
	end()
	for range 3 * maxAsking {
		if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a question that hung: %v", err)
		}
	}
}
