package keymgr

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// MaxIdentityName is the longest name of an identity, in characters.
const MaxIdentityName = 64

// Identity is somebody who signs requests over TCP: a user of the account.
type Identity struct {
	Name        string
	ARN         string
	AccessKeyID string
	Admin       bool // may do whatever key policies leave to the account, and everything without a key
	Disabled    bool
	Created     time.Time
	Role        string   // one of the roles, or ""
	Policies    []string // names of its own
	UIDs        []uint32 // users of the host that are mapped to it
}

// IdentityKey is an access key as it is made. Secret is shown this once.
type IdentityKey struct {
	ARN         string
	AccessKeyID string
	Secret      string
}

// identityRecord is the row of an identity. That of a deleted one stays, so that nobody gets its name, and what policies and grants say about it.
type identityRecord struct {
	Name      string    `json:"name"`
	Created   time.Time `json:"created"`
	Admin     bool      `json:"admin"`
	Disabled  bool      `json:"disabled"`
	Deleted   bool      `json:"deleted"`
	AccessKey string    `json:"accessKey"` // id; "" of a deleted one
	Secret    string    `json:"secret"`

	Role     string        `json:"role,omitempty"`
	Policies []namedPolicy `json:"policies,omitempty"`
	UIDs     []uint32      `json:"uids,omitempty"`

	documents []*policy.Document // of Policies; of what loadIdentity returns
}

// accessKeyRecord leads from an access key to its identity.
type accessKeyRecord struct {
	Name string `json:"name"`
}

// userARN is the ARN of an identity.
func userARN(name string) string { return userPrefix + name }

// IdentityARN is the ARN of the identity of that name.
func IdentityARN(name string) string { return userARN(name) }

const userPrefix = "arn:aws:iam::" + AccountID + ":user/"

// CreateIdentity makes an identity with an access key. For the owner alone, as all of identities. Errors: ErrValidation, ErrAlreadyExists (also of one that was deleted), ErrAccessDenied,
// and those that are ErrKeyUnavailable.
func (m *Manager) CreateIdentity(ctx context.Context, by Caller, name string, admin bool) (IdentityKey, error) {
	return m.createIdentity(ctx, by, identityRecord{Name: name, Admin: admin})
}

// CreateIdentityAs is CreateIdentity with a role ("": none).
func (m *Manager) CreateIdentityAs(ctx context.Context, by Caller, name, role string) (IdentityKey, error) {
	return m.createIdentity(ctx, by, identityRecord{Name: name, Role: role})
}

func (m *Manager) createIdentity(ctx context.Context, by Caller, rec identityRecord) (IdentityKey, error) {
	name, bad := rec.Name, m.checkRole(rec.Role)
	rec.Created = m.now().UTC()
	rec.newKey()
	detail := printable(name)
	if rec.Admin {
		detail += ", administrator"
	}
	if rec.Role != "" {
		detail += ", role " + printable(rec.Role)
	}
	err := m.changeIdentity(ctx, by, "CreateIdentity", name, detail, func(tx kv.Txn, old *identityRecord) (identityRecord, error) {
		if bad != nil {
			return rec, bad
		}
		if old != nil {
			return rec, fault(ErrAlreadyExists, "identity %s exists already, or did", name)
		}
		return rec, nil
	})
	if err != nil {
		return IdentityKey{}, err
	}
	return IdentityKey{ARN: userARN(name), AccessKeyID: rec.AccessKey, Secret: rec.Secret}, nil
}

// RotateIdentityKey gives an identity another access key; the one before is good for nothing from then on. Errors: ErrNotFound, and as CreateIdentity.
func (m *Manager) RotateIdentityKey(ctx context.Context, by Caller, name string) (out IdentityKey, err error) {
	err = m.changeIdentity(ctx, by, "RotateIdentityKey", name, printable(name), func(_ kv.Txn, old *identityRecord) (identityRecord, error) {
		rec, err := existing(old, name)
		rec.newKey()
		out = IdentityKey{ARN: userARN(name), AccessKeyID: rec.AccessKey, Secret: rec.Secret}
		return rec, err
	})
	if err != nil {
		return IdentityKey{}, err
	}
	return out, nil
}

// DisableIdentity refuses an identity's requests from now on; enable takes that back. Errors as RotateIdentityKey.
func (m *Manager) DisableIdentity(ctx context.Context, by Caller, name string, enable bool) error {
	operation := "DisableIdentity"
	if enable {
		operation = "EnableIdentity"
	}
	return m.changeIdentity(ctx, by, operation, name, printable(name), func(_ kv.Txn, old *identityRecord) (identityRecord, error) {
		rec, err := existing(old, name)
		rec.Disabled = !enable
		return rec, err
	})
}

// DeleteIdentity ends an identity. Its name cannot be used again. Errors as RotateIdentityKey.
func (m *Manager) DeleteIdentity(ctx context.Context, by Caller, name string) error {
	return m.changeIdentity(ctx, by, "DeleteIdentity", name, printable(name), func(tx kv.Txn, old *identityRecord) (identityRecord, error) {
		rec, err := existing(old, name)
		rec.Deleted, rec.AccessKey, rec.Secret = true, "", ""
		for _, uid := range rec.UIDs {
			tx.Delete(userKey(uid))
		}
		rec.Role, rec.Policies, rec.UIDs = "", nil, nil
		return rec, err
	})
}

func existing(rec *identityRecord, name string) (identityRecord, error) {
	if rec == nil || rec.Deleted {
		return identityRecord{}, fault(ErrNotFound, "there is no identity %s", printable(name))
	}
	return *rec, nil
}

// newKey draws an access key: an id of AWS' form, and 240 random bits.
func (rec *identityRecord) newKey() {
	var raw [40]byte
	_, _ = rand.Read(raw[:])
	rec.AccessKey = "AKIA" + base32.StdEncoding.EncodeToString(raw[:10])
	rec.Secret = base64.StdEncoding.EncodeToString(raw[10:])
}

// quietIdentityChanges take authority away; the others give some, and are alerts.
var quietIdentityChanges = []string{"DisableIdentity", "DeleteIdentity", "UnmapIdentity", "DeleteIdentityPolicy"}

// changeIdentity replaces the row of an identity by what edit makes of the one that is there (nil: none), with its access key's row.
func (m *Manager) changeIdentity(ctx context.Context, by Caller, operation, name, detail string, edit func(kv.Txn, *identityRecord) (identityRecord, error)) error {
	u := &Use{Operation: operation, Detail: detail, Alert: !slices.Contains(quietIdentityChanges, operation)}
	apply := func(tx kv.Txn) error {
		old, err := m.loadIdentity(ctx, tx, name)
		if err != nil {
			return err
		}
		rec, err := edit(tx, old)
		if err != nil {
			return err
		}
		if old != nil && old.AccessKey != "" {
			tx.Delete(m.rows.tagged(rowAccessKey, old.AccessKey))
		}
		if rec.AccessKey != "" {
			if err := m.rows.put(tx, m.rows.tagged(rowAccessKey, rec.AccessKey), accessKeyRecord{Name: name}); err != nil {
				return err
			}
		}
		return m.rows.put(tx, m.rows.tagged(rowIdentity, name), rec)
	}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		if err := ownerOnly(by, operation); err != nil {
			return nil, err
		}
		u.Reason = "the owner"
		if err := checkIdentityName(name); err != nil {
			return nil, err
		}
		if operation == "RotateIdentityKey" || operation == "DeleteIdentity" {
			return apply, m.keptApprover(ctx, by, name)
		}
		return apply, nil
	})
}

func checkIdentityName(name string) error {
	if err := checkLength("name", name, 1, MaxIdentityName, true); err != nil {
		return err
	}
	if name == emergencyName {
		return fault(ErrValidation, "the name %s is kept for emergencies", emergencyName)
	}
	for _, c := range []byte(name) {
		if !aliasCharacter(c) && !strings.ContainsRune("+=,.@", rune(c)) || c == ':' || c == '/' {
			return fault(ErrValidation, "the name of an identity holds letters, digits and _+=,.@- only")
		}
	}
	return nil
}

// loadIdentity reads an identity's row; nil if there is none.
func (m *Manager) loadIdentity(ctx context.Context, r kv.Reader, name string) (*identityRecord, error) {
	var rec identityRecord
	found, err := m.rows.get(ctx, r, m.rows.tagged(rowIdentity, name), &rec)
	if err != nil || !found || rec.Name != name {
		return nil, err
	}
	return &rec, rec.parse()
}

// identity reads an identity's row; nil if there is none.
func (m *Manager) identity(ctx context.Context, name string) (*identityRecord, error) {
	return cached(&m.cache, func(c *cache) map[string]*identityRecord { return c.mu.identities }, name, func() (rec *identityRecord, err error) {
		err = m.view(ctx, func(r kv.Reader) error {
			rec, err = m.loadIdentity(ctx, r, name)
			return err
		})
		return rec, err
	})
}

// ListIdentities lists all identities that are not deleted, in an order of its own. For the owner alone: ErrAccessDenied.
func (m *Manager) ListIdentities(ctx context.Context, by Caller) ([]Identity, error) {
	if err := ownerOnly(by, "ListIdentities"); err != nil {
		return nil, m.record(ctx, by, &Use{Operation: "ListIdentities"}, err)
	}
	var list []Identity
	lo, hi := kindRange(rowIdentity)
	err := m.view(ctx, func(r kv.Reader) error {
		list = nil
		var bad error
		err := r.Scan(ctx, lo, hi, 0, func(k, v []byte) bool {
			var rec identityRecord
			if bad = m.rows.open(k, v, &rec); bad != nil {
				return false
			}
			if !rec.Deleted {
				list = append(list, rec.identity())
			}
			return true
		})
		if bad != nil {
			return bad
		}
		return err
	})
	return list, err
}

func (rec *identityRecord) identity() Identity {
	out := Identity{Name: rec.Name, ARN: userARN(rec.Name), AccessKeyID: rec.AccessKey, Admin: rec.Admin, Disabled: rec.Disabled, Created: rec.Created, Role: rec.Role, UIDs: rec.UIDs}
	for _, p := range rec.Policies {
		out.Policies = append(out.Policies, p.Name)
	}
	return out
}

// Credentials finds who signs with an access key: the secret, and the principal whom a good signature proves. ErrUnrecognizedClient for one that is not there, or not good any more.
func (m *Manager) Credentials(ctx context.Context, accessKeyID string) (secret string, who policy.Principal, err error) {
	if secret, who, ok := m.emergencyCredentials(accessKeyID); ok {
		return secret, who, nil
	}
	name, err := cached(&m.cache, func(c *cache) map[string]string { return c.mu.accessKeys }, accessKeyID, func() (string, error) {
		var rec accessKeyRecord
		err := m.view(ctx, func(r kv.Reader) error {
			_, err := m.rows.get(ctx, r, m.rows.tagged(rowAccessKey, accessKeyID), &rec)
			return err
		})
		return rec.Name, err
	})
	if err != nil {
		return "", who, err
	}
	rec, err := m.identity(ctx, name)
	if err != nil {
		return "", who, err
	}
	if rec == nil || rec.Disabled || rec.Deleted || rec.AccessKey != accessKeyID {
		return "", who, fault(ErrUnrecognizedClient, "The security token included in the request is invalid.")
	}
	return rec.Secret, policy.Principal{ARN: userARN(name), Account: AccountID}, nil
}

// knownUser is nil if the ARN is that of an identity.
func (m *Manager) knownUser(ctx context.Context, arn string) error {
	name, ok := strings.CutPrefix(arn, userPrefix)
	if !ok {
		return fmt.Errorf("%s is nobody here", printable(arn))
	}
	rec, err := m.identity(ctx, name)
	if err == nil && (rec == nil || rec.Deleted) {
		err = fmt.Errorf("there is no identity %s", printable(name))
	}
	return err
}
