package keymgr

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
)

// fakeToken is an hsm.Token in memory whose every call can be made to fail. Its mechanism is the one whose uses are bounded.
type fakeToken struct {
	mu      sync.Mutex
	keys    map[hsm.KeyID]cipher.AEAD
	fail    func(op string) error // nil: nothing fails
	encrypt int                   // calls

	mechanism string // of what Decrypt takes
	closed    bool   // to keys from outside
}

func newFakeToken() *fakeToken {
	return &fakeToken{keys: map[hsm.KeyID]cipher.AEAD{}, mechanism: hsm.AESGCM}
}

func (t *fakeToken) key(op string, id hsm.KeyID) (cipher.AEAD, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		if err := t.fail(op); err != nil {
			return nil, err
		}
	}
	k, ok := t.keys[id]
	if !ok {
		return nil, hsm.ErrKeyNotFound
	}
	return k, nil
}

func (t *fakeToken) failWith(fail func(op string) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail = fail
}

func (t *fakeToken) GenerateKey(_ context.Context, id hsm.KeyID, label string) (hsm.KeyInfo, error) {
	if _, err := t.key("generate", id); err == nil {
		return hsm.KeyInfo{}, hsm.ErrExists
	} else if !errors.Is(err, hsm.ErrKeyNotFound) {
		return hsm.KeyInfo{}, err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return t.hold(id, label, raw)
}

func (t *fakeToken) ImportKey(_ context.Context, id hsm.KeyID, label string, raw []byte) (hsm.KeyInfo, error) {
	if _, err := t.key("import", id); !errors.Is(err, hsm.ErrKeyNotFound) {
		return hsm.KeyInfo{}, errors.Join(err, hsm.ErrExists)
	}
	return t.hold(id, label, raw)
}

func (t *fakeToken) hold(id hsm.KeyID, label string, raw []byte) (hsm.KeyInfo, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys[id] = aead
	return hsm.KeyInfo{ID: id, Label: label, CheckValue: []byte{1, 2, 3}}, nil
}

func (t *fakeToken) FindKey(_ context.Context, id hsm.KeyID) (hsm.KeyInfo, error) {
	_, err := t.key("find", id)
	return hsm.KeyInfo{ID: id}, err
}

func (t *fakeToken) Encrypt(_ context.Context, id hsm.KeyID, plaintext, aad []byte) (hsm.Sealed, error) {
	k, err := t.key("encrypt", id)
	if err != nil {
		return hsm.Sealed{}, err
	}
	t.mu.Lock()
	t.encrypt++
	t.mu.Unlock()
	iv := make([]byte, 12)
	_, _ = rand.Read(iv)
	return hsm.Sealed{Mechanism: hsm.AESGCM, IV: iv, Ciphertext: k.Seal(nil, iv, plaintext, aad)}, nil
}

func (t *fakeToken) Decrypt(_ context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	k, err := t.key("decrypt", id)
	if err != nil {
		return nil, err
	}
	if err := hsm.CheckDecrypt(s, aad, t.mechanism, k.NonceSize()); err != nil {
		return nil, err
	}
	p, err := k.Open(nil, s.IV, s.Ciphertext, aad)
	if err != nil {
		return nil, hsm.ErrAuth
	}
	return p, nil
}

func (t *fakeToken) DestroyKey(_ context.Context, id hsm.KeyID) error {
	if _, err := t.key("destroy", id); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keys, id)
	return nil
}

func (t *fakeToken) Info(context.Context) (hsm.Info, error) {
	return hsm.Info{Kind: "fake", Imports: !t.closed}, nil
}

func (t *fakeToken) Close() error { return nil }

// tape is a Recorder in memory that can be made to fail.
type tape struct {
	mu   sync.Mutex
	uses []Use
	fail error
}

func (t *tape) Record(_ context.Context, u Use) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		return t.fail
	}
	t.uses = append(t.uses, u)
	return nil
}

func (t *tape) failWith(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail = err
}

// last returns the newest n records.
func (t *tape) last(n int) []Use {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > len(t.uses) {
		n = len(t.uses)
	}
	return append([]Use(nil), t.uses[len(t.uses)-n:]...)
}

// brokenStore is a kv.Store whose changes can be made to fail.
type brokenStore struct {
	kv.Store
	mu         sync.Mutex
	updateFail error
	syncFail   error
	syncs      int
}

func (s *brokenStore) Update(ctx context.Context, id kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	s.mu.Lock()
	err := s.updateFail
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return s.Store.Update(ctx, id, fn)
}

func (s *brokenStore) Sync(ctx context.Context, rev kv.Rev) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncs++
	if s.syncFail != nil {
		return s.syncFail
	}
	return s.Store.Sync(ctx, rev)
}

func (s *brokenStore) failWith(update, sync error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updateFail, s.syncFail = update, sync
}

// fixture is a Manager and everything below it.
type fixture struct {
	*Manager
	token *fakeToken
	store *brokenStore
	tape  *tape
	cfg   Config
	clock *clock
}

// clock is both clocks of a fixture: it stands still until it is told to go on.
type clock struct {
	mu      sync.Mutex
	wall    time.Time
	elapsed time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

func (c *clock) monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// advance moves the clocks, each by its own.
func (c *clock) advance(wall, elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.elapsed = c.wall.Add(wall), c.elapsed+elapsed
}

// pass lets time pass as it does on a machine that runs, observed every half hour.
func (f *fixture) pass(t *testing.T, d time.Duration) {
	t.Helper()
	for ; d > 0; d -= 30 * time.Minute {
		step := min(d, 30*time.Minute)
		f.clock.advance(step, step)
		if err := f.Observe(t.Context(), me); err != nil {
			t.Fatal(err)
		}
	}
}

// me is the owner.
var me = Caller{UID: 1000, GID: 1000, PID: 42, RequestID: "r", Who: policy.Principal{ARN: policy.UserARN(AccountID, "me"), Account: AccountID, Root: true,
	Unix: &policy.Unix{UID: 1000, User: "me", Groups: []string{"us"}}}}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	storeKey, err := blockcrypt.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{token: newFakeToken(), store: &brokenStore{Store: memory.New()}, tape: &tape{}}
	f.clock = &clock{wall: time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)}
	f.cfg = Config{ID: [16]byte{7}, Token: f.token, Store: f.store, StoreKey: storeKey, Recorder: f.tape, Now: f.clock.now, Elapsed: f.clock.monotonic}
	if err := Format(t.Context(), f.cfg); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	return f
}

// reopen starts another Manager on the same token and store, as after a restart.
func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	var err error
	if f.Manager, err = Open(t.Context(), f.cfg); err != nil {
		t.Fatal(err)
	}
	f.emergency.cost = hashCost{passes: 1, memory: 64}
}

func (f *fixture) newKey(t *testing.T, alias string) KeyMetadata {
	t.Helper()
	md, err := f.CreateKey(t.Context(), me, CreateKeyInput{Description: "a key", Alias: alias})
	if err != nil {
		t.Fatal(err)
	}
	return md
}

func (f *fixture) seal(t *testing.T, keyID, plaintext string, c Context) []byte {
	t.Helper()
	out, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: keyID, Plaintext: []byte(plaintext), Context: c})
	if err != nil {
		t.Fatal(err)
	}
	return out.Blob
}
