package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

const (
	mutators = 4
	keysEach = 2 // of a mutator
	clients  = 8
)

// plan is how much is done. The short form counts and looks at no clock: how long it takes is the machine's.
type plan struct {
	softHSM   bool
	steps     int           // changes of each mutator between two outages
	restarts  int           // of the daemon
	crashes   int           // of the token's worker, for each restart
	quiet     int           // changes of each mutator without outages, at the end
	wantEach  int           // transitions of each kind, outages are two of them, at least
	atLeast   time.Duration // of the long form
	maxRounds int           // of restarts and crashes
}

// soak is one run.
type soak struct {
	t       *testing.T
	seed    uint64
	d       *daemon
	users   []keymgr.IdentityKey
	outages outages
	late    late
	probe   string // a key that nobody changes

	mu   sync.Mutex
	keys []*subject
}

// TestMix: users of eight clients on keys that four others change, with a daemon and a worker that are killed.
func TestMix(t *testing.T) {
	if os.Getenv("KMSFS_LONG") == "1" {
		t.Run("long", func(t *testing.T) {
			mix(t, plan{softHSM: true, steps: 2, restarts: 20, crashes: 1, quiet: 500, wantEach: 1000, atLeast: time.Hour, maxRounds: 1000})
		})
		return
	}
	t.Run("embedded", func(t *testing.T) { mix(t, plan{steps: 50, restarts: 4, quiet: 50, maxRounds: 1}) })
	t.Run("SoftHSM", func(t *testing.T) {
		mix(t, plan{softHSM: true, steps: 12, restarts: 2, crashes: 2, quiet: 30, maxRounds: 1})
	})
}

func mix(t *testing.T, p plan) {
	s := newSoak(t, p)
	ctx := t.Context()
	var all []*mutator
	for i := range mutators {
		m := &mutator{s: s, c: s.d.socket(), rng: rand.New(rand.NewPCG(s.seed, uint64(i))), counts: map[string]int{}, id: i}
		t.Cleanup(func() { _ = m.c.Close() })
		for range keysEach {
			k, err := s.newSubject(ctx, m.c)
			if err != nil {
				t.Fatal(err)
			}
			m.keys = append(m.keys, k)
			s.keys = append(s.keys, k)
		}
		all = append(all, m)
	}
	counts, codes := map[string]int{}, map[string]int{}
	begin := time.Now()
	for round := 0; round < p.maxRounds && (round == 0 || time.Since(begin) < p.atLeast || least(s.made(all, counts)) < p.wantEach) && !t.Failed(); round++ {
		if end, ok := t.Deadline(); ok && time.Until(end) < p.atLeast/12 {
			t.Log("ended early, the test's time is over")
			break
		}
		s.busy(codes, func() {
			for range p.restarts {
				s.outage(ctx, all, p.steps, counts, "kill the daemon", s.restart)
				for range p.crashes {
					s.outage(ctx, all, p.steps, counts, "kill the worker", s.crash)
				}
			}
		})
		t.Logf("round %d, %v: transitions %v; %v", round, time.Since(begin).Round(time.Second), s.made(all, counts), &s.late)
	}
	s.leaks(ctx, all, p.quiet, codes)
	counts = s.made(all, counts)
	t.Logf("seed %d: transitions %v; answers %v; standstills %d; %v", s.seed, counts, codes, s.outages.count(), &s.late)
	if n := least(counts); n < max(1, p.wantEach) {
		t.Errorf("a transition was made %d times, want %d: %v", n, p.wantEach, counts)
	}
	for _, code := range []string{"", "AccessDeniedException", "DisabledException", "KMSInvalidStateException", "InvalidCiphertextException"} {
		if codes[code] < clients {
			t.Errorf("answer %q was given %d times: the mix does not try what it should", code, codes[code])
		}
	}
}

// made is all transitions: those that mutators made, and outages.
func (s *soak) made(all []*mutator, outages map[string]int) map[string]int {
	sum := maps.Clone(outages)
	for _, m := range all {
		addCounts(sum, m.counts)
	}
	return sum
}

// least is the smallest count.
func least(counts map[string]int) int {
	if len(counts) == 0 {
		return 0
	}
	n := int(^uint(0) >> 1)
	for c := range maps.Values(counts) {
		n = min(n, c)
	}
	return n
}

func newSoak(t *testing.T, p plan) *soak {
	s := &soak{t: t, seed: 1, d: newDaemon(t, p.softHSM)}
	if v := os.Getenv("KMSFS_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s.seed = seed
	}
	c := s.d.socket()
	defer c.Close()
	for i := range users {
		k, err := c.CreateIdentity(t.Context(), keymgr.Caller{}, fmt.Sprint("user", i), false)
		if err != nil {
			t.Fatal(err)
		}
		s.users = append(s.users, k)
	}
	md, err := c.CreateKey(t.Context(), keymgr.Caller{}, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	s.probe = md.KeyID
	s.outages.watch(t, func() { s.recovered(t.Context()) })
	return s
}

// newSubject makes a key that everybody may use.
func (s *soak) newSubject(ctx context.Context, c *client.Client) (*subject, error) {
	f := facts{state: keymgr.StateEnabled, versions: 1}
	for i := range f.allow {
		f.allow[i] = mayAll
	}
	md, err := c.CreateKey(ctx, keymgr.Caller{}, keymgr.CreateKeyInput{Policy: s.document(f)})
	if err != nil {
		return nil, err
	}
	k := &subject{id: md.KeyID, arn: md.ARN}
	k.history.settle(f)
	return k, nil
}

func (s *soak) replaceSubject(old, fresh *subject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.keys {
		if s.keys[i] == old {
			s.keys[i] = fresh
		}
	}
}

// subject draws a key.
func (s *soak) subject(rng *rand.Rand) *subject {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[rng.IntN(len(s.keys))]
}

// busy runs fn while clients use the keys, and adds up what they were answered.
func (s *soak) busy(codes map[string]int, fn func()) {
	var stop atomic.Bool
	var all []*user
	var wg sync.WaitGroup
	for i := range clients {
		u := s.newUser(i)
		u.mark = s.outages.mark()
		all = append(all, u)
		wg.Go(func() {
			for !stop.Load() && !s.t.Failed() {
				u.call(s.t.Context())
			}
		})
	}
	fn()
	stop.Store(true)
	wg.Wait()
	for _, u := range all {
		u.transport.CloseIdleConnections()
		addCounts(codes, u.codes)
	}
}

// outage lets all mutators make steps, and in the midst of that what strikes.
func (s *soak) outage(ctx context.Context, all []*mutator, steps int, counts map[string]int, kind string, strike func(context.Context)) {
	half := make(chan struct{})
	var left atomic.Int64
	left.Store(int64(steps * len(all) / 2))
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() {
			for made := 0; made < steps && !s.t.Failed(); {
				if !m.step(ctx) {
					continue
				}
				made++
				if left.Add(-1) == 0 {
					close(half)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-half:
		if strike != nil {
			strike(ctx)
			counts[kind]++
		}
	case <-ended: // the test has failed
	}
	<-ended
}

// restart kills the daemon and starts it again.
func (s *soak) restart(ctx context.Context) {
	s.outages.begin()
	s.d.kill()
	s.d.start()
	s.awaitToken(ctx, 0)
	s.outages.end()
}

// crash ends the token's worker by SIGSEGV and waits for the next.
func (s *soak) crash(ctx context.Context) {
	s.outages.begin()
	pid := s.d.workerPID()
	if pid == 0 {
		s.t.Error("there is no worker to kill")
	} else if err := syscall.Kill(pid, syscall.SIGSEGV); err != nil {
		s.t.Errorf("kill the worker: %v", err)
	}
	s.awaitToken(ctx, pid)
	s.outages.end()
}

// awaitToken waits until the token answers, by another worker than that one.
func (s *soak) awaitToken(ctx context.Context, old int) {
	c := s.d.socket()
	defer c.Close()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := c.Encrypt(ctx, keymgr.Caller{}, keymgr.EncryptInput{KeyID: s.probe, Plaintext: []byte("probe")})
		if err == nil && (old == 0 || s.d.workerPID() != old) || ctx.Err() != nil {
			return
		}
		if time.Now().After(end) {
			s.t.Errorf("the token does not come back: %v", err)
			return
		}
	}
}

// awaitDaemon lets some time pass in an outage.
func (s *soak) awaitDaemon(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// leaks compares what the daemon holds before and after a time without outages.
func (s *soak) leaks(ctx context.Context, all []*mutator, steps int, codes map[string]int) {
	none := map[string]int{}
	s.busy(codes, func() { s.outage(ctx, all, max(1, steps/10), none, "", nil) })
	before := s.settle(all, nil)
	s.busy(codes, func() { s.outage(ctx, all, steps, none, "", nil) })
	after := s.settle(all, &before)
	s.t.Logf("before %+v, after %+v", before, after)
	if !after.within(before) {
		s.t.Errorf("held %+v before, %+v after", before, after)
	}
	if after.rssKiB > before.rssKiB*3/2+32<<10 {
		s.t.Errorf("memory grew from %d to %d KiB", before.rssKiB, after.rssKiB)
	}
}

// settle is what the daemon holds while nobody asks it; with a measure, once that is no leak beside it, or as it is in the end.
func (s *soak) settle(all []*mutator, measure *holdings) holdings {
	for _, m := range all {
		_ = m.c.Close()
		m.c = s.d.socket()
	}
	h := s.d.holds()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		last := h
		h = s.d.holds()
		if measure == nil && h.goroutines >= last.goroutines && h.files >= last.files || measure != nil && h.within(*measure) {
			break
		}
	}
	return h
}
