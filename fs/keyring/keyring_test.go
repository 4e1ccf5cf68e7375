package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// manager is a key manager that seals with one key, whatever the key id, and does what it is told.
type manager struct {
	sealer *blockcrypt.Sealer

	mu    sync.Mutex
	calls int
	fail  error            // of every call
	deny  map[string]error // by key id
	gate  chan struct{}    // if not nil, calls wait for it
	given [][]byte         // plaintexts handed out
}

func newManager(t testing.TB) *manager {
	t.Helper()
	key, err := blockcrypt.NewKey()
	must(t, err)
	sealer, err := blockcrypt.NewSealer(key)
	must(t, err)
	return &manager{sealer: sealer, deny: map[string]error{}}
}

func (m *manager) set(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
}

func (m *manager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

func (m *manager) Decrypt(ctx context.Context, _ keymgr.Caller, in keymgr.DecryptInput) (keymgr.DecryptOutput, error) {
	m.mu.Lock()
	m.calls++
	fail, gate := m.fail, m.gate
	if fail == nil {
		fail = m.deny[in.KeyID]
	}
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return keymgr.DecryptOutput{}, ctx.Err()
		}
	}
	if fail != nil {
		return keymgr.DecryptOutput{}, fail
	}
	aad, err := blockcrypt.EncodeContext(in.Context)
	if err != nil {
		return keymgr.DecryptOutput{}, err
	}
	plain, err := m.sealer.Open(nil, in.Blob, aad)
	if err != nil {
		return keymgr.DecryptOutput{}, keymgr.ErrInvalidCiphertext
	}
	m.set(func() { m.given = append(m.given, plain) })
	return keymgr.DecryptOutput{Plaintext: plain, KeyID: in.KeyID}, nil
}

func (m *manager) GenerateDataKey(_ context.Context, _ keymgr.Caller, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error) {
	if m.fail != nil {
		return keymgr.DataKey{}, m.fail
	}
	key, err := blockcrypt.NewKey()
	if err != nil {
		return keymgr.DataKey{}, err
	}
	aad, err := blockcrypt.EncodeContext(in.Context)
	if err != nil {
		return keymgr.DataKey{}, err
	}
	blob, err := m.sealer.Seal(nil, key[:], aad)
	return keymgr.DataKey{Plaintext: key[:], Blob: blob, KeyID: in.KeyID}, err
}

func (m *manager) ReEncrypt(ctx context.Context, by keymgr.Caller, in keymgr.ReEncryptInput) (keymgr.ReEncryptOutput, error) {
	out, err := m.Decrypt(ctx, by, keymgr.DecryptInput{Blob: in.Blob, Context: in.SourceContext, KeyID: in.SourceKeyID})
	if err != nil {
		return keymgr.ReEncryptOutput{}, err
	}
	aad, err := blockcrypt.EncodeContext(in.DestinationContext)
	if err != nil {
		return keymgr.ReEncryptOutput{}, err
	}
	blob, err := m.sealer.Seal(nil, out.Plaintext, aad)
	clear(out.Plaintext)
	return keymgr.ReEncryptOutput{Blob: blob, KeyID: in.DestinationKeyID}, err
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a keyring over one zone.
type bench struct {
	*Keyring
	keys  *manager
	clock *clock
	zone  *meta.Zone
	log   *bytes.Buffer
}

func newBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	b := &bench{keys: newManager(t), clock: &clock{now: time.Unix(1e9, 0)}, log: new(bytes.Buffer)}
	volume, err := blockcrypt.NewVolumeID()
	must(t, err)
	b.zone, err = NewRootZone(ctx, b.keys, keymgr.Caller{}, "cmk-1", volume)
	must(t, err)
	cfg := Config{
		Volume: volume,
		Keys:   b.keys,
		Zone: func(_ context.Context, id meta.ZoneID) (*meta.Zone, error) {
			if id != b.zone.ID {
				return nil, meta.ErrNotFound
			}
			return b.zone, nil
		},
		TTL: time.Minute, RetryAfter: time.Second, Now: b.clock.Now,
		Log: slog.New(slog.NewTextHandler(b.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	b.Keyring = New(cfg)
	t.Cleanup(b.Close)
	return b
}

func (b *bench) get(t *testing.T) *meta.ZoneKeys {
	t.Helper()
	zk, err := b.Zone(ctx, meta.RootZone)
	must(t, err)
	must(t, zk.Valid())
	return zk
}

// settle waits until no unwrap is running.
func (b *bench) settle() {
	l, _ := b.lease(meta.RootZone)
	l.mu.Lock()
	running := l.running
	l.mu.Unlock()
	if running != nil {
		<-running
	}
}

func wantErr(t *testing.T, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func TestCached(t *testing.T) {
	b := newBench(t, nil)
	zk := b.get(t)
	for range 100 {
		if b.get(t) != zk {
			t.Fatal("other keys")
		}
	}
	if n := b.keys.count(); n != 1 {
		t.Fatalf("%d calls", n)
	}
	sealed, err := zk.Names.Seal(nil, []byte("name"), nil)
	must(t, err)
	b.Revoke(meta.RootZone)
	wantErr(t, zk.Valid(), meta.ErrKeyRevoked)
	again := b.get(t)
	if again == zk {
		t.Fatal("revoked keys were handed out")
	}
	if got, err := again.Names.Open(nil, sealed, nil); err != nil || string(got) != "name" {
		t.Fatalf("keys of the same zone differ: %v", err)
	}
	for _, p := range b.keys.given {
		if !bytes.Equal(p, make([]byte, len(p))) {
			t.Fatal("a raw zone key was not wiped")
		}
	}
}

// TestRenewal: a use in the second half of the time renews in the background, with the same keys; the user does not wait.
func TestRenewal(t *testing.T) {
	b := newBench(t, nil)
	zk := b.get(t)
	b.clock.add(29 * time.Second)
	b.get(t)
	b.settle()
	if n := b.keys.count(); n != 1 {
		t.Fatalf("%d calls in the first half", n)
	}
	gate := make(chan struct{})
	b.keys.set(func() { b.keys.gate = gate })
	b.clock.add(2 * time.Second)
	for range 10 {
		if b.get(t) != zk {
			t.Fatal("other keys")
		}
	}
	close(gate)
	b.settle()
	if n := b.keys.count(); n != 2 {
		t.Fatalf("%d calls in the second half", n)
	}
	b.clock.add(55 * time.Second)
	if b.get(t) != zk {
		t.Fatal("renewed keys are others")
	}
}

// TestOutage: keys outlive an outage until their time is over, and come back after it.
func TestOutage(t *testing.T) {
	b := newBench(t, nil)
	zk := b.get(t)
	b.keys.set(func() { b.keys.fail = keymgr.ErrLocked })
	b.clock.add(50 * time.Second)
	b.get(t)
	b.settle()
	b.get(t)
	b.clock.add(11 * time.Second)
	wantErr(t, zk.Valid(), meta.ErrKeyUnavailable)
	_, err := b.Zone(ctx, meta.RootZone)
	wantErr(t, err, meta.ErrKeyUnavailable)
	wantErr(t, err, keymgr.ErrLocked)
	b.keys.set(func() { b.keys.fail = nil })
	b.clock.add(2 * time.Second)
	b.get(t)
	wantErr(t, zk.Valid(), meta.ErrKeyUnavailable) // what expired stays so
}

// TestFailureIsRemembered: many who ask while the key manager is away ask it once in a while.
func TestFailureIsRemembered(t *testing.T) {
	b := newBench(t, nil)
	b.keys.set(func() { b.keys.fail = keymgr.ErrKeyUnavailable })
	for range 50 {
		_, err := b.Zone(ctx, meta.RootZone)
		wantErr(t, err, meta.ErrKeyUnavailable)
	}
	if n := b.keys.count(); n != 1 {
		t.Fatalf("%d calls", n)
	}
	b.clock.add(2 * time.Second)
	_, err := b.Zone(ctx, meta.RootZone)
	wantErr(t, err, meta.ErrKeyUnavailable)
	if n := b.keys.count(); n != 2 {
		t.Fatalf("%d calls", n)
	}
}

// TestRefusal: what the key manager refuses is revoked as soon as it says so, and usable again when it changes its mind.
func TestRefusal(t *testing.T) {
	for _, refusal := range []error{keymgr.ErrDisabled, keymgr.ErrInvalidState, keymgr.ErrNotFound, keymgr.ErrAccessDenied} {
		b := newBench(t, nil)
		zk := b.get(t)
		b.keys.set(func() { b.keys.fail = refusal })
		b.clock.add(31 * time.Second)
		_, _ = b.Zone(ctx, meta.RootZone) // renews
		b.settle()
		wantErr(t, zk.Valid(), meta.ErrKeyRevoked)
		_, err := b.Zone(ctx, meta.RootZone)
		wantErr(t, err, meta.ErrKeyRevoked)
		wantErr(t, err, refusal)
		b.keys.set(func() { b.keys.fail = nil })
		b.clock.add(2 * time.Second)
		b.get(t)
	}
}

// TestWraps: any wrap opens the zone; what is reported when none does is the one that might help.
func TestWraps(t *testing.T) {
	for _, c := range []struct {
		first, second error
		want          error
	}{
		{nil, nil, nil},
		{keymgr.ErrDisabled, nil, nil},
		{keymgr.ErrKeyUnavailable, nil, nil},
		{keymgr.ErrInvalidCiphertext, nil, nil},
		{keymgr.ErrDisabled, keymgr.ErrKeyUnavailable, meta.ErrKeyUnavailable},
		{keymgr.ErrInvalidCiphertext, keymgr.ErrDisabled, meta.ErrKeyRevoked},
		{keymgr.ErrInvalidCiphertext, keymgr.ErrIncorrectKey, meta.ErrAuth},
		{keymgr.ErrInternal, keymgr.ErrDisabled, meta.ErrKeyUnavailable},
	} {
		b := newBench(t, nil)
		b.zone.Wraps = append(b.zone.Wraps, meta.ZoneWrap{KeyID: "cmk-2", Blob: b.zone.Wraps[0].Blob})
		b.keys.deny["cmk-1"], b.keys.deny["cmk-2"] = c.first, c.second
		_, err := b.Zone(ctx, meta.RootZone)
		if c.want == nil {
			must(t, err)
			continue
		}
		wantErr(t, err, c.want)
	}
}

// TestBounded: Zone waits no longer than it is told, and shares one call.
func TestBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Timeout = 10 * time.Millisecond })
	b.keys.gate = make(chan struct{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := b.Zone(ctx, meta.RootZone); !errors.Is(err, meta.ErrKeyUnavailable) {
				t.Errorf("error is %v", err)
			}
		}()
	}
	wg.Wait()
	if n := b.keys.count(); n != 1 {
		t.Fatalf("%d calls", n)
	}

	b = newBench(t, nil)
	b.keys.gate = make(chan struct{})
	short, cancel := context.WithCancel(ctx)
	cancel()
	_, err := b.Zone(short, meta.RootZone)
	wantErr(t, err, context.Canceled)
	close(b.keys.gate) // the call that was begun goes on for others
	b.settle()
	b.get(t)
	if n := b.keys.count(); n != 1 {
		t.Fatalf("%d calls", n)
	}
}

// TestTampered: rows and blobs that were changed do not open.
func TestTampered(t *testing.T) {
	for name, change := range map[string]func(z *meta.Zone){
		"blob":       func(z *meta.Zone) { z.Wraps[0].Blob[40] ^= 1 },
		"names key":  func(z *meta.Zone) { z.Names[30] ^= 1 },
		"commitment": func(z *meta.Zone) { z.Commitment[0] ^= 1 },
	} {
		b := newBench(t, nil)
		change(b.zone)
		_, err := b.Zone(ctx, meta.RootZone)
		if !errors.Is(err, meta.ErrAuth) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBench(t, func(c *Config) { c.Volume[0] ^= 1 }) // a zone of another volume
	_, err := b.Zone(ctx, meta.RootZone)
	wantErr(t, err, meta.ErrAuth)
}

func TestPlace(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.Zone(ctx, 7)
	wantErr(t, err, meta.ErrNotFound)
	b.zone.ID = 7
	_, err = b.Zone(ctx, 7)
	wantErr(t, err, meta.ErrNotFound) // remembered for a moment
	b.clock.add(2 * time.Second)
	_, err = b.Zone(ctx, 7)
	wantErr(t, err, meta.ErrKeyUnavailable) // nobody knows its place

	b = newBench(t, func(c *Config) {
		c.Place = func(context.Context, *meta.Zone) (meta.Ino, string, error) { return 5, "secret", nil }
	})
	zoneKey, err := blockcrypt.NewKey()
	must(t, err)
	b.zone, err = meta.NewZone(b.cfg.Volume, 7, 9, zoneKey)
	must(t, err)
	aad, err := blockcrypt.EncodeContext(meta.ZoneContext(b.cfg.Volume, 7, 5, "secret"))
	must(t, err)
	blob, err := b.keys.sealer.Seal(nil, zoneKey[:], aad)
	must(t, err)
	b.zone.Wraps = []meta.ZoneWrap{{KeyID: "cmk-1", Blob: blob}}
	_, err = b.Zone(ctx, 7)
	must(t, err)
}

func TestClose(t *testing.T) {
	b := newBench(t, nil)
	zk := b.get(t)
	b.Close()
	wantErr(t, zk.Valid(), meta.ErrKeyUnavailable)
	_, err := b.Zone(ctx, meta.RootZone)
	wantErr(t, err, meta.ErrKeyUnavailable)
}

func TestNewRootZone(t *testing.T) {
	m := newManager(t)
	m.fail = keymgr.ErrDisabled
	_, err := NewRootZone(ctx, m, keymgr.Caller{}, "cmk", blockcrypt.VolumeID{1})
	wantErr(t, err, keymgr.ErrDisabled)
}

// TestSilent: neither log nor errors hold key bytes.
func TestSilent(t *testing.T) {
	b := newBench(t, nil)
	b.get(t)
	b.keys.set(func() { b.keys.fail = fmt.Errorf("down: %w", keymgr.ErrKeyUnavailable) })
	b.clock.add(time.Hour)
	_, err := b.Zone(ctx, meta.RootZone)
	wantErr(t, err, meta.ErrKeyUnavailable)
	b.settle()
	if text := b.log.String(); !strings.Contains(text, "down") || strings.Contains(text, "Plaintext") {
		t.Errorf("log: %s", text)
	}
}
