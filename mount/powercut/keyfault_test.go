package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs/keyring"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/soft"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// nth fails the n-th call that it is asked about.
type nth struct {
	mu   sync.Mutex
	n    int // calls to come until the one that fails
	err  error
	late bool // it fails when it is done
	hit  bool
}

// arm makes the n-th call from now on fail, none if n is 0. It tells whether the one before it has failed.
func (f *nth) arm(n int) (hit bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hit, f.n, f.hit = f.hit, n, false
	return hit
}

// around makes a call, unless it is the one that fails before it is made.
func (f *nth) around(call func() error) error {
	f.mu.Lock()
	f.n--
	now := f.n == 0
	f.hit = f.hit || now
	f.mu.Unlock()
	if now && !f.late {
		return f.err
	}
	if err := call(); err != nil || !now {
		return err
	}
	return f.err
}

// failingToken is a token of which one call fails, before it is made or when its answer is on the way.
type failingToken struct {
	hsm.Token
	*nth
}

func (t failingToken) GenerateKey(ctx context.Context, id hsm.KeyID, label string) (info hsm.KeyInfo, err error) {
	err = t.around(func() (err error) { info, err = t.Token.GenerateKey(ctx, id, label); return err })
	return info, err
}

func (t failingToken) FindKey(ctx context.Context, id hsm.KeyID) (info hsm.KeyInfo, err error) {
	err = t.around(func() (err error) { info, err = t.Token.FindKey(ctx, id); return err })
	return info, err
}

func (t failingToken) Encrypt(ctx context.Context, id hsm.KeyID, plaintext, aad []byte) (s hsm.Sealed, err error) {
	err = t.around(func() (err error) { s, err = t.Token.Encrypt(ctx, id, plaintext, aad); return err })
	return s, err
}

func (t failingToken) Decrypt(ctx context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) (plain []byte, err error) {
	err = t.around(func() (err error) { plain, err = t.Token.Decrypt(ctx, id, s, aad); return err })
	return plain, err
}

func (t failingToken) DestroyKey(ctx context.Context, id hsm.KeyID) error {
	return t.around(func() error { return t.Token.DestroyKey(ctx, id) })
}

// failingRecorder is a key-use log of which one write fails.
type failingRecorder struct{ *nth }

func (r failingRecorder) Record(context.Context, keymgr.Use) error {
	return r.around(func() error { return nil })
}

// keyService is a key manager in this process with one key, whose token and log fail on demand, and the time by which keys in use run out.
type keyService struct {
	*keymgr.Manager
	cfg   keymgr.Config
	token *nth
	log   *nth
	key   string // ARN

	mu  sync.Mutex
	now time.Time
}

var keyUser = keymgr.Caller{RequestID: "r", Who: policy.Principal{ARN: policy.UserARN(keymgr.AccountID, "tester"), Account: keymgr.AccountID, Root: true}}

func newKeyService(t testing.TB) *keyService {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/key", []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := soft.Create(dir+"/token", soft.KeyFile(dir+"/key"))
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	t.Cleanup(func() { _, _ = token.Close(), store.Close() })
	s := &keyService{token: new(nth), log: new(nth), now: time.Unix(1_800_000_000, 0)}
	s.cfg = keymgr.Config{Token: failingToken{token, s.token}, Store: store, StoreKey: newKey(t), Recorder: failingRecorder{s.log}}
	if err := keymgr.Format(t.Context(), s.cfg); err != nil {
		t.Fatal(err)
	}
	s.restart(t)
	md, err := s.CreateKey(t.Context(), keyUser, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	s.key = md.ARN
	return s
}

// restart begins anew with what is stored.
func (s *keyService) restart(t testing.TB) {
	t.Helper()
	m, err := keymgr.Open(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Manager = m
}

func (s *keyService) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// lapse ends the time of all keys in use.
func (s *keyService) lapse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(2 * keyring.DefaultTTL)
}

// ring returns the keys of an open volume.
func (s *keyService) ring(r *running) meta.Keyring {
	return keyring.New(keyring.Config{Volume: r.at.keys.volume.ID, Keys: s.Manager, Now: s.time,
		Caller: func(context.Context) keymgr.Caller { return keyUser },
		Zone:   func(ctx context.Context, id meta.ZoneID) (*meta.Zone, error) { return r.store.Zone(ctx, id) }})
}

func rootContext(r *running) keymgr.Context {
	return meta.ZoneContext(r.at.keys.volume.ID, meta.RootZone, 0, "/")
}

// wrap puts the root zone under the service's key.
func (s *keyService) wrap(r *running) error {
	key := r.at.keys.volume.ZoneKey
	out, err := s.Encrypt(context.Background(), keyUser, keymgr.EncryptInput{KeyID: s.key, Plaintext: key[:], Context: rootContext(r)})
	if err != nil {
		return err
	}
	return putWrap(r, s.key, out.Blob)
}

// rewrap wraps the root zone's key anew, under the newest version of the service's key.
func (s *keyService) rewrap(r *running) error {
	ctx := context.Background()
	zone, err := r.store.Zone(ctx, meta.RootZone)
	if err != nil {
		return err
	}
	out, err := s.ReEncrypt(ctx, keyUser, keymgr.ReEncryptInput{Blob: zone.Wraps[0].Blob, SourceKeyID: s.key, SourceContext: rootContext(r),
		DestinationKeyID: s.key, DestinationContext: rootContext(r)})
	if err != nil {
		return err
	}
	return putWrap(r, s.key, out.Blob)
}

func putWrap(r *running, key string, blob []byte) error {
	_, rev, err := r.store.ChangeZone(context.Background(), meta.RootZone, nil, func(z *meta.Zone) error {
		z.Wraps = []meta.ZoneWrap{{KeyID: key, Blob: blob}}
		return nil
	})
	return errors.Join(err, r.kv.Sync(context.Background(), rev))
}

// keyStep is one step of the work that key faults are injected into: an operation on a file, or one on keys.
type keyStep struct {
	name string
	op   op
	keys func() error
}

func (s *simSession) keySteps(service *keyService) []keyStep {
	old := s.h.now().list("", kindFile)[0]
	var steps []keyStep
	for _, o := range []op{
		{kind: opCreate, path: "new"},
		{kind: opWrite, path: "new", n: 30000, seed: 9001},
		{kind: opFsync, path: "new"},
		{kind: opWrite, path: "new", off: 5000, n: 9000, seed: 9002},
		{kind: opRename, path: "new", to: old},
		{kind: opFsyncDir},
		{kind: opCreate, path: "other"},
	} {
		steps = append(steps, keyStep{name: o.String(), op: o})
	}
	rotation := []keyStep{
		{name: "rotate the key", keys: func() error {
			_, err := service.RotateKeyOnDemand(context.Background(), keyUser, service.key)
			return err
		}},
		{name: "wrap the zone's key anew", keys: func() error { return service.rewrap(s.r) }},
	}
	return append(steps[:3:3], append(rotation, steps[3:]...)...)
}

// keyFaults are the ways in which the key manager's surroundings may fail.
var keyFaults = []struct {
	name string
	of   func(*keyService) *nth
	err  error
	late bool
}{
	{name: "HSM call", of: func(s *keyService) *nth { return s.token }, err: hsm.ErrTokenAway},
	{name: "answer of the HSM", of: func(s *keyService) *nth { return s.token }, err: hsm.ErrTimeout, late: true},
	{name: "key-use record", of: func(s *keyService) *nth { return s.log }, err: syscall.ENOSPC},
	{name: "key-use record behind", of: func(s *keyService) *nth { return s.log }, err: syscall.EIO, late: true},
}

// TestFailNthKeyUse fails the n-th call of the HSM, and the n-th write of the key-use log, for n = 1, 2, ... until the work ends without: while keys that
// ran out are fetched for creating, writing and renaming, while a key is rotated, and while a zone's key is wrapped anew. The operation says that the key
// is not available, nothing has changed, and the same operation succeeds afterwards.
func TestFailNthKeyUse(t *testing.T) {
	n := mounttest.Seed(t)
	base := simBase(t, simKinds[0], n)
	for _, fault := range keyFaults {
		t.Run(fault.name, func(t *testing.T) {
			for at := 1; ; at++ {
				service := newKeyService(t)
				f := fault.of(service)
				f.err, f.late = fault.err, fault.late
				s := base.on(t, rand.New(rand.NewPCG(n, uint64(at))))
				more := s.failKeyUse(service, f, at)
				s.quit()
				s.v.discard()
				if !more {
					if at < 8 {
						t.Errorf("only %d calls", at-1)
					}
					t.Logf("%d calls failed, one at a time", at-1)
					break
				}
			}
		})
	}
}

// failKeyUse makes the work with one failing call. It returns false if there was none.
func (s *simSession) failKeyUse(service *keyService, f *nth, at int) bool {
	s.t.Helper()
	s.mustOpenWith(simHooks{}) // under keys of its own, to be wrapped
	if err := errors.Join(service.wrap(s.r), s.r.close()); err != nil {
		s.t.Fatal(err)
	}
	s.v.keep(s.t)
	s.mustOpenWith(simHooks{keys: service.ring})
	f.arm(at)
	failed := ""
	for _, step := range s.keySteps(service) {
		service.lapse()
		err := s.makeKeyStep(step)
		if err != nil {
			if failed != "" {
				s.t.Fatalf("%s after %s had failed: %v", step.name, failed, err)
			}
			failed = step.name
			s.keyAway(step, err)
			service.lapse()
			if err = s.makeKeyStep(step); err != nil {
				s.t.Fatalf("%s again: %v", step.name, err)
			}
		}
	}
	hit := f.arm(0)
	if failed != "" && !hit {
		s.t.Fatalf("%s fails without a fault", failed)
	}
	service.restart(s.t)
	service.lapse()
	s.stands(service, fmt.Sprintf("call %d failed, of %s", at, failed))
	return hit
}

func (s *simSession) makeKeyStep(step keyStep) error {
	if step.keys != nil {
		return step.keys()
	}
	return s.step(step.op)
}

// keyAway: an operation that cannot have its key says so, and has changed nothing.
func (s *simSession) keyAway(step keyStep, err error) {
	s.t.Helper()
	if step.keys != nil {
		if !errors.Is(err, keymgr.ErrKeyUnavailable) {
			s.t.Fatalf("%s: %v", step.name, err)
		}
		return
	}
	if !errors.Is(err, syscall.ENOKEY) {
		s.t.Fatalf("%s: %v, want ENOKEY", step.name, err)
	}
	s.h.cancel()
}

// stands compares and checks the volume, closes it and opens it again.
func (s *simSession) stands(service *keyService, what string) {
	s.t.Helper()
	s.agrees(what, s.h.withAll(), s.target)
	s.must(op{kind: opCheckpoint})
	if err := errors.Join(s.r.check(), s.r.close()); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	s.v.keep(s.t)
	s.mustOpenWith(simHooks{keys: service.ring})
	s.agrees(what+", opened again", s.h.withAll(), s.target)
}
