package keymgr

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Limits of break-glass.
const (
	MinEmergencySecret  = 16 // bytes of each secret
	MaxEmergencySecret  = 1024
	MaxEmergency        = 4 * time.Hour
	DefaultEmergency    = time.Hour
	MaxEmergencyReason  = 1024 // characters
	emergencyName       = "break-glass"
	emergencySecretSize = 32
)

// EmergencyARN is the principal that break-glass makes. No identity can have its name.
const EmergencyARN = userPrefix + emergencyName

// emergencyRecord is the row of break-glass. The two secrets are held by two people.
type emergencyRecord struct {
	First  secretHash `json:"first"`
	Second secretHash `json:"second"`
	Set    time.Time  `json:"set"`

	// Of the last opening since the secrets were set.
	Opened time.Time `json:"opened,omitzero"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// secretHash recognises a secret: Argon2id under a salt.
type secretHash struct {
	Salt   []byte `json:"salt"`
	Hash   []byte `json:"hash"`
	Passes uint32 `json:"passes"`
	Memory uint32 `json:"memoryKiB"`
	Lanes  uint8  `json:"lanes"`
}

// hashCost is the work that it takes to compute a secretHash: passes over memory, in KiB.
type hashCost struct{ passes, memory uint32 }

// emergencyCost is what is written, and the least that is accepted.
var emergencyCost = hashCost{passes: 3, memory: 64 << 10}

func (c hashCost) hash(secret []byte) secretHash {
	h := secretHash{Salt: make([]byte, 16), Passes: c.passes, Memory: c.memory, Lanes: 4}
	_, _ = rand.Read(h.Salt)
	h.Hash = h.of(secret)
	return h
}

func (h *secretHash) of(secret []byte) []byte {
	return argon2.IDKey(secret, h.Salt, h.Passes, h.Memory, h.Lanes, emergencySecretSize)
}

// fits reports whether it is the hash of the secret. A row that asks for less work than is written, or far more, fits nothing.
func (h *secretHash) fits(secret []byte, least hashCost) bool {
	if h.Passes < least.passes || h.Passes > 64 || h.Memory < least.memory || h.Memory > 1<<20 || h.Lanes == 0 {
		return false
	}
	return subtle.ConstantTimeCompare(h.of(secret), h.Hash) == 1
}

// emergency is the open emergency of a running key manager. It ends with the process.
type emergency struct {
	cost      hashCost
	verifying chan struct{} // holds one token: whoever computes hashes has taken it

	mu struct {
		sync.Mutex
		key      IdentityKey // zero: not open
		deadline time.Duration
		until    time.Time
		reason   string
	}
}

// Emergency is the state of break-glass.
type Emergency struct {
	Set    time.Time // when its secrets were set; zero: never
	Open   bool
	Until  time.Time // while it is open
	Opened time.Time // the last time since the secrets were set; zero: never
	By     string    // ARN of who opened it then
	Reason string
}

// isEmergency reports whether the caller is the emergency identity: its key is checked with each request, so it is open.
func (by Caller) isEmergency() bool { return by.Who.ARN == EmergencyARN && by.Via == "" }

// SetBreakGlass sets the two secrets of break-glass, each MinEmergencySecret to MaxEmergencySecret bytes and known to one of two people; they are only read, and what is kept are their hashes (Argon2id). For the
// owner alone; it needs approval where that is on. It takes some tenths of a second. Errors: ErrValidation, ErrApprovalRequired, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) SetBreakGlass(ctx context.Context, by Caller, first, second []byte) error {
	for _, s := range [][]byte{first, second} {
		if len(s) < MinEmergencySecret || len(s) > MaxEmergencySecret {
			return fault(ErrValidation, "a secret of break-glass has %d to %d bytes", MinEmergencySecret, MaxEmergencySecret)
		}
	}
	if subtle.ConstantTimeCompare(first, second) == 1 {
		return fault(ErrValidation, "the two secrets of break-glass are the same")
	}
	done, err := m.emergency.verify(ctx)
	if err != nil {
		return err
	}
	in := setBreakGlassParams{m.emergency.cost.hash(first), m.emergency.cost.hash(second)}
	done()
	return m.setBreakGlass(ctx, by, in)
}

type setBreakGlassParams struct {
	First  secretHash `json:"first"`
	Second secretHash `json:"second"`
}

func (in *setBreakGlassParams) describeTo(*policy.Context) {}

func (in *setBreakGlassParams) carryOut(ctx context.Context, m *Manager, by Caller, _ string) (string, error) {
	return "the secrets of break-glass are set", m.setBreakGlass(ctx, by, *in)
}

func (m *Manager) setBreakGlass(ctx context.Context, by Caller, in setBreakGlassParams) error {
	u := &Use{Operation: "SetBreakGlass", Alert: true}
	return m.perform(ctx, by, change{use: u, second: &seconded{params: in}, check: func() (func(kv.Txn) error, error) {
		if err := ownerOnly(by, u.Operation); err != nil {
			return nil, err
		}
		u.Reason = "the owner"
		return func(tx kv.Txn) error {
			return m.rows.put(tx, key(rowEmergency, nil), emergencyRecord{First: in.First, Second: in.Second, Set: m.now().UTC()})
		}, nil
	}})
}

// verify waits for the turn to compute hashes: they take memory.
func (e *emergency) verify(ctx context.Context) (done func(), err error) {
	select {
	case e.verifying <- struct{}{}:
		return func() { <-e.verifying }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another check of secrets: %w", ctx.Err())
	}
}

func (m *Manager) emergencyRow(ctx context.Context) (rec emergencyRecord, found bool, err error) {
	err = m.view(ctx, func(r kv.Reader) (err error) {
		rec = emergencyRecord{}
		found, err = m.rows.get(ctx, r, key(rowEmergency, nil), &rec)
		return err
	})
	return rec, found, err
}

// OpenBreakGlass makes the emergency identity, for lasts (0: DefaultEmergency; at most MaxEmergency) of a running key manager's time or until it ends, and returns its access key; one that was there is good for
// nothing any more. It takes both secrets, which are only read; which of them was wrong is not said. Every try is recorded as an alert. Errors: ErrWrongSecret, ErrNotFound (never set), ErrValidation,
// ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) OpenBreakGlass(ctx context.Context, by Caller, first, second []byte, lasts time.Duration, reason string) (IdentityKey, time.Time, error) {
	if lasts == 0 {
		lasts = DefaultEmergency
	}
	u := &Use{Operation: "OpenBreakGlass", Alert: true, Detail: fmt.Sprintf("for %v: %s", lasts, reason)}
	rec := identityRecord{Name: emergencyName}
	rec.newKey()
	out := IdentityKey{ARN: EmergencyARN, AccessKeyID: rec.AccessKey, Secret: rec.Secret}
	until := m.now().UTC().Add(lasts)
	err := m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		row, err := m.checkBreakGlass(ctx, first, second, lasts, reason)
		if err != nil {
			return nil, err
		}
		u.Reason = "both secrets of break-glass"
		row.Opened, row.By, row.Reason = m.now().UTC(), by.Who.ARN, reason
		return func(tx kv.Txn) error { return m.rows.put(tx, key(rowEmergency, nil), row) }, nil
	})
	if err != nil {
		return IdentityKey{}, time.Time{}, err
	}
	e := &m.emergency
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.key, e.mu.deadline, e.mu.until, e.mu.reason = out, m.elapsed()+lasts, until, reason
	return out, until, nil
}

func (m *Manager) checkBreakGlass(ctx context.Context, first, second []byte, lasts time.Duration, reason string) (emergencyRecord, error) {
	if lasts < time.Minute || lasts > MaxEmergency {
		return emergencyRecord{}, fault(ErrValidation, "break-glass lasts a minute to %v", MaxEmergency)
	}
	if err := checkLength("reason", reason, 1, MaxEmergencyReason, false); err != nil {
		return emergencyRecord{}, err
	}
	row, found, err := m.emergencyRow(ctx)
	if err != nil {
		return row, err
	}
	if !found {
		return row, fault(ErrNotFound, "break-glass was never set up; kmsfs break-glass setup has to come before the emergency")
	}
	done, err := m.emergency.verify(ctx)
	if err != nil {
		return row, err
	}
	defer done()
	both := func(a, b []byte) bool { // always computes both
		first, second := row.First.fits(a, m.emergency.cost), row.Second.fits(b, m.emergency.cost)
		return first && second
	}
	if !both(first, second) && !both(second, first) { // in which order the two people come does not matter
		return row, fault(ErrWrongSecret, "at least one of the two secrets is not that of break-glass")
	}
	return row, nil
}

// CloseBreakGlass ends the emergency, if there is one: the owner may, and the emergency identity. Errors: ErrAccessDenied, ErrRecord.
func (m *Manager) CloseBreakGlass(ctx context.Context, by Caller) error {
	u := &Use{Operation: "CloseBreakGlass", Alert: true}
	if !by.isEmergency() {
		if err := ownerOnly(by, u.Operation); err != nil {
			return m.record(ctx, by, u, err)
		}
	}
	u.Decision = Allow
	m.emergency.end(func(time.Duration) bool { return true })
	return m.record(ctx, by, u, nil)
}

// end closes the emergency if it is open and over says so of its deadline.
func (e *emergency) end(over func(deadline time.Duration) bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.key.AccessKeyID == "" || !over(e.mu.deadline) {
		return false
	}
	e.mu.key, e.mu.reason, e.mu.until = IdentityKey{}, "", time.Time{}
	return true
}

// endEmergency records that the time is over. Observe calls it.
func (m *Manager) endEmergency(ctx context.Context, by Caller) error {
	if !m.emergency.end(m.emergencyOver) {
		return nil
	}
	return m.record(ctx, by, &Use{Operation: "EndBreakGlass", Decision: Allow, Alert: true, Detail: "its time is over"}, nil)
}

func (m *Manager) emergencyOver(deadline time.Duration) bool { return m.elapsed() >= deadline }

// emergencyCredentials finds the access key of the open emergency.
func (m *Manager) emergencyCredentials(accessKeyID string) (secret string, who policy.Principal, ok bool) {
	e := &m.emergency
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.key.AccessKeyID == "" || e.mu.key.AccessKeyID != accessKeyID || m.emergencyOver(e.mu.deadline) {
		return "", who, false
	}
	return e.mu.key.Secret, policy.Principal{ARN: EmergencyARN, Account: AccountID}, true
}

// Emergency says how break-glass stands.
func (m *Manager) Emergency(ctx context.Context) (Emergency, error) {
	row, _, err := m.emergencyRow(ctx)
	out := Emergency{Set: row.Set, Opened: row.Opened, By: row.By, Reason: row.Reason}
	e := &m.emergency
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.key.AccessKeyID != "" && !m.emergencyOver(e.mu.deadline) {
		out.Open, out.Until = true, e.mu.until
	}
	return out, err
}

// decideEmergency decides for the emergency identity: no policy binds it, and it may do the operations of an emergency alone.
func decideEmergency(r policy.Request, u *Use, action string) (decision, error) {
	u.Alert = true
	u.Reason = "break-glass"
	if !operations[action].emergency {
		return decision{}, fault(ErrAccessDenied, "User: %s is not authorized to perform: %s because it is not one of the operations of an emergency", EmergencyARN, r.Action)
	}
	return decision{Decision: policy.Decision{Effect: policy.Allow, Statement: -1}}, nil
}
