package keymgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Config is what a Manager stands on. All fields up to Recorder are required; the Manager closes none of them.
type Config struct {
	ID       [16]byte         // of the key store; part of every row's AAD
	Token    hsm.Token        // holds the backing keys
	Store    kv.Store         // holds the rows; this Manager is its only writer
	StoreKey *blockcrypt.Key  // the key store's own key; not kept
	Recorder Recorder         // the key-use log
	Now      func() time.Time // nil: time.Now

	Elapsed   func() time.Duration // a monotonic clock, from any origin; nil: the time since now
	AWSLimits bool                 // AWS' limit of 25 rotations on demand

	// GrantDelay is how long a new grant is seen only by who presents its token, as in a system of many servers; 0: not at all.
	GrantDelay time.Duration

	// AcceptRestore lets Open go on with a key store that is older than its token knows; that is recorded. Self is in whose name.
	AcceptRestore bool
	Self          Caller
}

// Manager is the key manager's service. Every method takes the caller, decides, and records the decision of what uses or changes a key before it
// answers. Methods block on the token, the store and the log, and end with their context.
//
// Lock order: changes, then cache.mu. Never: a call of the token, store or recorder under cache.mu.
type Manager struct {
	token    hsm.Token
	store    kv.Store
	rows     *rows
	recorder Recorder
	now      func() time.Time
	elapsed  func() time.Duration

	forwards   bool // the token hands on for whom it is asked
	awsLimits  bool
	builtin    builtin
	tokens     *tokens
	imports    *importTokens
	emergency  emergency
	wrapping   chan struct{} // holds one token: whoever makes a wrapping key has taken it
	grantDelay time.Duration
	grantLimit int // MaxGrants; less in tests

	changes chan struct{} // holds one token: whoever changes rows has taken it
	cache   cache
	uses    useCounter

	observed observation

	// The generation of the key store: its own, and what its token was told. Who has taken changes owns them.
	noteID       hsm.KeyID
	newest, told generation
	untold       error // why the token does not know the newest
	self         Caller
	watch        watch
}

// Format makes an empty store into a key store's; nothing is changed if it is one already (ErrAlreadyExists).
func Format(ctx context.Context, cfg Config) error {
	m, err := newManager(cfg)
	if err != nil {
		return err
	}
	return m.update(ctx, func(tx kv.Txn) error {
		found, err := m.rows.get(ctx, tx, key(rowInfo, nil), new(infoRecord))
		if err != nil {
			return err
		}
		if found {
			return fault(ErrAlreadyExists, "the key store is formatted already")
		}
		return m.rows.put(tx, key(rowInfo, nil), infoRecord{Created: m.now().UTC()})
	})
}

// Open starts the service on a store made by Format. ErrNotFound if it was never formatted; ErrInternal if store and store key do not belong together; ErrRollback if the token
// knows a newer state of it.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	m, err := newManager(cfg)
	if err != nil {
		return nil, err
	}
	found := false
	err = m.view(ctx, func(r kv.Reader) error {
		var err error
		found, err = m.rows.get(ctx, r, key(rowInfo, nil), new(infoRecord))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	if !found {
		return nil, fault(ErrNotFound, "the key store's tables are empty")
	}
	if err := m.checkGeneration(ctx, cfg.AcceptRestore); err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	return m, nil
}

func newManager(cfg Config) (*Manager, error) {
	if cfg.Token == nil || cfg.Store == nil || cfg.StoreKey == nil || cfg.Recorder == nil {
		return nil, fault(ErrInternal, "incomplete configuration")
	}
	r, err := newRows(cfg.ID, cfg.StoreKey)
	if err != nil {
		return nil, err
	}
	m := &Manager{token: cfg.Token, store: cfg.Store, rows: r, recorder: cfg.Recorder, now: cfg.Now, elapsed: cfg.Elapsed,
		awsLimits: cfg.AWSLimits, grantDelay: cfg.GrantDelay, grantLimit: MaxGrants, changes: make(chan struct{}, 1),
		noteID: hsm.KeyID(cfg.ID), self: cfg.Self}
	if m.tokens, err = newTokens(cfg.ID, cfg.StoreKey); err != nil {
		return nil, err
	}
	if m.imports, err = newImportTokens(cfg.ID, cfg.StoreKey); err != nil {
		return nil, err
	}
	m.wrapping, m.emergency.verifying = make(chan struct{}, 1), make(chan struct{}, 1)
	m.emergency.cost = emergencyCost
	if m.builtin, err = newBuiltin(); err != nil {
		return nil, fmt.Errorf("read built-in policies: %w", err)
	}
	if f, ok := cfg.Token.(hsm.Forwarder); ok {
		m.forwards = f.Forwards()
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.elapsed == nil {
		start := time.Now()
		m.elapsed = func() time.Duration { return time.Since(start) }
	}
	m.observed = observation{turn: make(chan struct{}, 1), wall: m.now(), elapsed: m.elapsed()}
	m.cache.reset()
	m.watch.init()
	m.uses.init(m)
	return m, nil
}

// lockChanges makes the caller the only one to change rows until it calls the function returned.
func (m *Manager) lockChanges(ctx context.Context) (unlock func(), err error) {
	select {
	case m.changes <- struct{}{}:
		return func() { <-m.changes }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another change: %w", ctx.Err())
	}
}

// update commits a change and makes it durable. The cache is emptied whatever happens: after an error the change may still turn up.
func (m *Manager) update(ctx context.Context, fn func(kv.Txn) error) error {
	defer func() {
		m.cache.reset()
		m.watch.changed()
	}()
	rev, err := m.store.Update(ctx, kv.OpID{}, fn)
	if err == nil {
		err = m.store.Sync(ctx, rev)
	}
	return storeFault(err)
}

func (m *Manager) view(ctx context.Context, fn func(kv.Reader) error) error {
	return storeFault(m.store.View(ctx, fn))
}

// storeFault gives an error of the store its class: ErrKeyUnavailable where it may pass. Errors that have a class keep it.
func storeFault(err error) error {
	var f *Fault
	switch {
	case err == nil, errors.As(err, &f), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, kv.ErrNoSpace), errors.Is(err, kv.ErrConflict), errors.Is(err, kv.ErrClosed), errors.Is(err, kv.ErrFailed):
		return &Fault{Class: ErrKeyUnavailable, Message: "the key store's tables cannot be used at the moment", Cause: err}
	default:
		return &Fault{Class: ErrInternal, Message: "the key store's tables cannot be read", Cause: err}
	}
}

// tokenFault gives an error of the token its class; arn is the key that was used.
func tokenFault(err error, arn string) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, hsm.ErrAuth):
		return &Fault{Class: ErrInvalidCiphertext, Cause: err}
	case errors.Is(err, hsm.ErrKeyNotFound):
		return &Fault{Class: ErrInvalidState, Message: arn + " has lost its backing key.", Cause: err}
	case errors.Is(err, hsm.ErrRefused):
		return &Fault{Class: ErrInvalidState, Message: "the backing key of " + arn + " cannot be used where it is kept: it is disabled there, or this host is not allowed to", Cause: err}
	case errors.Is(err, hsm.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return &Fault{Class: ErrDependencyTimeout, Message: "the token did not answer in time", Cause: err}
	case errors.Is(err, hsm.ErrSize):
		return &Fault{Class: ErrValidation, Message: "plaintext or encryption context is out of range", Cause: err}
	case errors.Is(err, hsm.ErrTokenAway), errors.Is(err, hsm.ErrClosed), errors.Is(err, hsm.ErrPIN), errors.Is(err, hsm.ErrLocked),
		errors.Is(err, hsm.ErrModule):
		return &Fault{Class: ErrKeyUnavailable, Message: "the token does not answer", Cause: err}
	default:
		return &Fault{Class: ErrInternal, Message: "the token failed", Cause: err}
	}
}

// cache keeps what resolves names and blobs, between two changes.
type cache struct {
	mu struct {
		sync.RWMutex
		epoch     uint64 // counts resets
		keys      map[keyUUID]*cmk
		aliases   map[string]keyUUID
		materials map[materialID]materialRecord
		grants    map[grantee][]*grant

		identities map[string]*identityRecord
		accessKeys map[string]string
		users      map[uint32]string
	}
}

func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.epoch++
	c.mu.keys = map[keyUUID]*cmk{}
	c.mu.aliases = map[string]keyUUID{}
	c.mu.materials = map[materialID]materialRecord{}
	c.mu.grants = map[grantee][]*grant{}
	c.mu.identities = map[string]*identityRecord{}
	c.mu.accessKeys = map[string]string{}
	c.mu.users = map[uint32]string{}
}

// cacheLimit bounds each of the maps.
const cacheLimit = 8192

// cached returns the entry of the map that get selects, or else loads and keeps it, unless something changed in between.
func cached[K comparable, V any](c *cache, get func(*cache) map[K]V, k K, load func() (V, error)) (V, error) {
	c.mu.RLock()
	v, ok := get(c)[k]
	epoch := c.mu.epoch
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := load()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.epoch == epoch {
		if m := get(c); len(m) < cacheLimit {
			m[k] = v
		} else {
			clear(m)
			m[k] = v
		}
	}
	return v, nil
}
