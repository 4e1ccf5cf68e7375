package keyring

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/fair"
	"github.com/kmsfs/kmsfs/meta"
)

// Defaults of Config.
const (
	DefaultTTL        = 15 * time.Minute
	DefaultTimeout    = 5 * time.Second
	DefaultRetryAfter = time.Second
)

// KeyManager opens wrapped zone keys, and wraps file keys in zones where the CMK does that itself: keymgr/client.Client is one.
type KeyManager interface {
	Decrypt(ctx context.Context, by keymgr.Caller, in keymgr.DecryptInput) (keymgr.DecryptOutput, error)
	GenerateDataKey(ctx context.Context, by keymgr.Caller, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error)
	ReEncrypt(ctx context.Context, by keymgr.Caller, in keymgr.ReEncryptInput) (keymgr.ReEncryptOutput, error)
}

// Config is what New needs. Volume, Keys and Zone are required.
type Config struct {
	Volume blockcrypt.VolumeID
	Keys   KeyManager
	// Zone reads the row of a zone, e.g. meta.Store.Zone.
	Zone func(ctx context.Context, id meta.ZoneID) (*meta.Zone, error)
	// Place returns the directory that holds a zone's directory and its name there, which the encryption context names. It is not asked about
	// the root zone; nil: there is no other.
	Place func(ctx context.Context, z *meta.Zone) (parent meta.Ino, name string, err error)
	// Caller says on whose behalf a key of a zone is used. nil: the process itself. Keys of files are used in the name of keymgr.CallerOf.
	Caller func(ctx context.Context) keymgr.Caller

	// ZoneTTL is how long the keys of one zone may be used; where it is 0, or nil, TTL says.
	ZoneTTL    func(id meta.ZoneID) time.Duration
	TTL        time.Duration    // how long keys may be used after the key manager gave them; 0 is DefaultTTL
	Timeout    time.Duration    // how long Zone waits for the key manager; 0 is DefaultTimeout
	RetryAfter time.Duration    // how long a failure is remembered; 0 is DefaultRetryAfter
	Now        func() time.Time // clock; nil is the system's
	Log        *slog.Logger     // nil: silent
}

// Bounds of calls of the key manager that are under way at once. What is asked for nobody in particular counts as one user more.
const (
	maxCalls    = 16
	maxUserCall = 4 // for one user
)

// user is a uid, or nobody in particular.
type user struct {
	uid  uint32
	some bool
}

// Keyring caches the keys of a volume's zones.
type Keyring struct {
	cfg  Config
	fair *fair.Turns[user]

	mu     sync.Mutex
	leases map[meta.ZoneID]*lease // guarded by mu
	closed bool                   // guarded by mu
}

var _ meta.Keyring = (*Keyring)(nil)

// New returns an empty keyring. It panics if a required field is missing.
func New(cfg Config) *Keyring {
	if cfg.Keys == nil || cfg.Zone == nil {
		panic("keyring: Config without Keys or Zone")
	}
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.RetryAfter <= 0 {
		cfg.RetryAfter = DefaultRetryAfter
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Keyring{cfg: cfg, fair: fair.New[user](maxCalls, maxUserCall), leases: map[meta.ZoneID]*lease{}}
}

// Zone returns the keys of a zone, from the cache while they are valid. It waits at most Config.Timeout for the key manager.
//
// Errors: meta.ErrKeyUnavailable (not reachable, locked, or closed), meta.ErrKeyRevoked (refused), meta.ErrAuth (a wrap or row that is not
// authentic), meta.ErrNotFound (no such zone), the context's.
func (k *Keyring) Zone(ctx context.Context, id meta.ZoneID) (*meta.ZoneKeys, error) {
	l, err := k.lease(id)
	if err != nil {
		return nil, err
	}
	keys, renew, err := l.use(k.cfg.Now())
	switch {
	case err != nil:
		return nil, fmt.Errorf("keys of zone %d: %w", id, err)
	case renew:
		k.start(ctx, l)
	case keys == nil:
		return k.wait(ctx, l)
	}
	return keys, nil
}

// lease returns the entry of a zone, made on first use.
func (k *Keyring) lease(id meta.ZoneID) (*lease, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, fmt.Errorf("keys of zone %d: keyring is closed: %w", id, meta.ErrKeyUnavailable)
	}
	l := k.leases[id]
	if l == nil {
		l = &lease{id: id, now: k.cfg.Now}
		k.leases[id] = l
	}
	return l, nil
}

// wait joins or starts an unwrap and returns its outcome.
func (k *Keyring) wait(ctx context.Context, l *lease) (*meta.ZoneKeys, error) {
	done := k.start(ctx, l)
	select {
	case <-done:
	case <-ctx.Done():
		return nil, fmt.Errorf("keys of zone %d: %w", l.id, ctx.Err())
	}
	keys, _, err := l.use(k.cfg.Now())
	if err == nil && keys == nil { // ran out in the meantime
		err = meta.ErrKeyUnavailable
	}
	if err != nil {
		return nil, fmt.Errorf("keys of zone %d: %w", l.id, err)
	}
	return keys, nil
}

// start begins an unwrap of l unless one is running, and returns the channel that closes when it is over. It outlives the request that began
// it, because others may wait for it.
func (k *Keyring) start(ctx context.Context, l *lease) <-chan struct{} {
	done, turn, mine := l.begin()
	uid, some := keymgr.UserOf(ctx)
	k.fair.Want(turn, user{uid, some})
	if !mine {
		return done
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		ctx, cancel := awake.WithTimeout(ctx, k.cfg.Timeout)
		defer cancel()
		asked := k.cfg.Now()
		keys, err := k.inTurn(ctx, l.id, turn)
		if err != nil {
			k.cfg.Log.Warn("unwrap zone keys", "zone", uint64(l.id), "cause", err)
			l.fail(err, k.cfg.Now().Add(k.cfg.RetryAfter))
			return
		}
		ttl := k.ttl(l.id)
		l.grant(keys, asked.Add(ttl/2), asked.Add(ttl))
		time.AfterFunc(ttl, l.expire)
	}()
	return done
}

// inTurn unwraps the keys of a zone when it is the call's turn.
func (k *Keyring) inTurn(ctx context.Context, id meta.ZoneID, t *fair.Turn[user]) (*meta.ZoneKeys, error) {
	if err := k.fair.Wait(ctx, t); err != nil {
		return nil, fmt.Errorf("other calls of the key manager do not end: %w: %w", meta.ErrKeyUnavailable, err)
	}
	defer k.fair.Done(t)
	return k.unwrap(ctx, id)
}

// ttl is how long the keys of a zone may be used.
func (k *Keyring) ttl(id meta.ZoneID) time.Duration {
	if k.cfg.ZoneTTL != nil {
		if ttl := k.cfg.ZoneTTL(id); ttl > 0 {
			return ttl
		}
	}
	return k.cfg.TTL
}

// Revoke ends the lease of a zone now; the next use asks the key manager.
func (k *Keyring) Revoke(id meta.ZoneID) {
	k.mu.Lock()
	l := k.leases[id]
	delete(k.leases, id)
	k.mu.Unlock()
	if l != nil {
		l.end(meta.ErrKeyRevoked)
	}
}

// Refresh has the next use of a zone read its row anew, which has other keys by now. Whoever has the keys of before in hand may go on with them until their time
// is over.
func (k *Keyring) Refresh(id meta.ZoneID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.leases[id]; l != nil {
		k.leases[id] = &lease{id: id, now: k.cfg.Now, before: l}
	}
}

// Close ends all leases; Zone then fails with meta.ErrKeyUnavailable.
func (k *Keyring) Close() {
	k.mu.Lock()
	leases := k.leases
	k.leases, k.closed = map[meta.ZoneID]*lease{}, true
	k.mu.Unlock()
	for _, l := range leases {
		l.end(meta.ErrKeyUnavailable)
	}
}
