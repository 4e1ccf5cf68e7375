package keymgr

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Limits of grants; AWS'.
const (
	MaxGrants          = 50000 // of one key
	MaxGrantName       = 256   // characters
	MaxPrincipal       = 256   // characters
	MaxConstraintPairs = 8     // of one constraint
	MaxConstraintValue = 384   // characters
)

// grantable are the operations that a grant may allow.
var grantable = []string{"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "CreateGrant", "RetireGrant",
	"DescribeKey"}

// elsewhereGrantable are those that AWS' grants may allow on keys of kinds that there are none of here.
var elsewhereGrantable = []string{"Sign", "Verify", "GetPublicKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac",
	"DeriveSharedSecret"}

// GrantConstraints narrow a grant to requests with an encryption context that is Equals, or holds all pairs of Subset. Names of pairs have no case, values have. Both may
// be given. Empty: no constraint.
type GrantConstraints struct {
	Equals Context `json:"equals,omitempty"`
	Subset Context `json:"subset,omitempty"`
}

// Grant allows a principal some operations on one key.
type Grant struct {
	KeyID       string // ARN
	ID          string // 64 hex digits
	Name        string // "" if it has none
	Grantee     string // ARN of a principal, or of the account
	Retiring    string // ARN of who may retire it; "" if nobody was named
	Issuer      string // ARN of the account
	Operations  []string
	Constraints GrantConstraints
	Created     time.Time
	Expires     time.Time // zero: never. Not AWS'
}

// CreateGrantInput asks for a grant. KeyID is an id or ARN.
type CreateGrantInput struct {
	KeyID, Name       string
	Grantee, Retiring string
	Operations        []string
	Constraints       GrantConstraints
	Expires           time.Time
	Tokens            []string
	DryRun            bool
}

// NewGrant is a grant as CreateGrant returns it. Token is another one each time.
type NewGrant struct{ ID, Token string }

// GrantFilter says which grants of a key are listed: those with the ID and the Grantee, each "" for all.
type GrantFilter struct{ ID, Grantee string }

// GrantList is a page of grants, in an order of its own; NextMarker is "" on the last one.
type GrantList struct {
	Grants     []Grant
	NextMarker string
}

// grantID is the identity of a grant.
type grantID [32]byte

func (id grantID) String() string { return hex.EncodeToString(id[:]) }

// parseGrantID reads 64 hex digits. ErrInvalidGrantID.
func parseGrantID(s string) (id grantID, err error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != s {
		return id, fault(ErrInvalidGrantID, "%s is not the id of a grant", printable(s))
	}
	copy(id[:], raw)
	return id, nil
}

// grantRecord is the row of a grant.
type grantRecord struct {
	Name        string           `json:"name,omitempty"`
	Grantee     string           `json:"grantee"`
	Retiring    string           `json:"retiring,omitempty"`
	Operations  []string         `json:"operations"` // sorted
	Constraints GrantConstraints `json:"constraints"`
	Created     time.Time        `json:"created"`
	Expires     time.Time        `json:"expires,omitzero"`
	CreatedBy   string           `json:"createdBy"` // principal
	Parent      string           `json:"parent,omitempty"`
}

// grant is a grantRecord and where it stands. Never changed once built.
type grant struct {
	grantRecord
	key keyUUID
	id  grantID
}

func (g *grant) public() Grant {
	return Grant{KeyID: g.key.ARN(), ID: g.id.String(), Name: g.Name, Grantee: g.Grantee, Retiring: g.Retiring, Issuer: policy.RootARN(AccountID), Operations: slices.Clone(g.Operations),
		Constraints: g.Constraints, Created: g.Created, Expires: g.Expires}
}

// CreateGrant allows a principal some operations on a key. One with the same name and the same parameters is not made twice: it gets another token. A caller whose right comes
// from a grant can only hand on what that grant allows, under constraints at least as strict, and for no longer. Errors: ErrValidation, ErrInvalidArn, ErrInvalidGrantToken, ErrNotFound, ErrDisabled,
// ErrInvalidState, ErrLimit, ErrAccessDenied, ErrDryRun, and those that are ErrKeyUnavailable.
func (m *Manager) CreateGrant(ctx context.Context, by Caller, in CreateGrantInput) (NewGrant, error) {
	u := &Use{Operation: "CreateGrant", Key: printable(in.KeyID), Alert: true}
	params := in
	params.Tokens = nil // good for minutes, and what they stand for is seen by then
	var made grantAnswer
	second := &seconded{params: params, answer: &made, withheld: "grantToken is secret: the same call gives one"}
	in.Operations = slices.Compact(slices.Sorted(slices.Values(in.Operations)))
	g := &grant{grantRecord: grantRecord{Name: in.Name, Grantee: in.Grantee, Retiring: in.Retiring, Operations: in.Operations, Constraints: in.Constraints,
		Created: m.now().UTC(), Expires: in.Expires.UTC(), CreatedBy: by.Principal}}
	_, _ = rand.Read(g.id[:])
	if in.Expires.IsZero() {
		g.Expires = time.Time{}
	}
	err := m.perform(ctx, by, change{use: u, second: second, check: func() (func(kv.Txn) error, error) {
		k, err := m.admitGrant(ctx, by, u, in, g)
		if err != nil {
			return nil, err
		}
		g.key = k.id
		same, err := m.sameGrant(ctx, g)
		if err != nil {
			return nil, err
		}
		if same != nil {
			g, second.free, u.Alert = same, by.approved == nil, false // nothing is given; an approved request is used up all the same
		}
		made = grantAnswer{g.key.ARN(), g.id.String()}
		u.Detail, u.Response = "grant "+made.GrantID, map[string]any{"keyId": made.KeyID, "grantId": made.GrantID}
		if same != nil {
			return func(kv.Txn) error { return nil }, nil
		}
		return func(tx kv.Txn) error { return m.putGrant(ctx, tx, g) }, nil
	}})
	if err == nil && second.given {
		g, err = m.grantAnswered(ctx, made)
	}
	if err != nil {
		return NewGrant{}, err
	}
	return NewGrant{ID: g.id.String(), Token: m.tokens.issue(g.key, g.id, m.now())}, nil
}

func (in *CreateGrantInput) carryOut(ctx context.Context, m *Manager, by Caller, _ string) (string, error) {
	made, err := m.CreateGrant(ctx, by, *in)
	return "grant " + made.ID, err
}

// grantAnswered is the grant that was made when its request was approved. ErrNotFound if it is no more.
func (m *Manager) grantAnswered(ctx context.Context, made grantAnswer) (*grant, error) {
	k, err := m.resolve(ctx, made.KeyID, false)
	if err != nil {
		return nil, err
	}
	id, err := parseGrantID(made.GrantID)
	if err != nil {
		return nil, err
	}
	var g *grant
	err = m.view(ctx, func(r kv.Reader) (err error) {
		g, err = m.loadGrant(ctx, r, k.id, id)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = fault(ErrNotFound, "grant %s was made when it was approved, and is revoked or retired since", made.GrantID)
	}
	return g, err
}

// admitGrant decides whether the caller may make the grant, and narrows it to the caller's own where that is a grant.
func (m *Manager) admitGrant(ctx context.Context, by Caller, u *Use, in CreateGrantInput, g *grant) (*cmk, error) {
	if err := m.checkGrant(ctx, in); err != nil {
		return nil, err
	}
	k, err := m.resolve(ctx, in.KeyID, false)
	if err != nil {
		return nil, err
	}
	u.Key = k.id.ARN()
	d, err := m.decide(ctx, by, u, "CreateGrant", k, "", ask{tokens: in.Tokens, conditions: in.describeTo})
	if err != nil {
		return nil, err
	}
	if d.Source == policy.FromGrant {
		parent := d.handsOn(g)
		if parent == nil {
			return nil, fault(ErrAccessDenied, "User: %s is not authorized to perform: kms:CreateGrant on resource: %s because a grant can only be handed on as it is or narrower", by.Who.ARN, k.id.ARN())
		}
		g.Parent = parent.id.String()
		if !parent.Expires.IsZero() && (g.Expires.IsZero() || g.Expires.After(parent.Expires)) {
			g.Expires = parent.Expires
		}
	}
	if err := k.allows("CreateGrant"); err != nil {
		return nil, err
	}
	if k.record.Grants >= m.grantLimit {
		return nil, fault(ErrLimit, "%s has %d grants already", k.id.ARN(), k.record.Grants)
	}
	if in.DryRun {
		return nil, errDryRun()
	}
	return k, nil
}

func errDryRun() error {
	return fault(ErrDryRun, "The request would have succeeded, but the DryRun option is set.")
}

// describeTo tells policies about the grant that is asked for.
func (in *CreateGrantInput) describeTo(c *policy.Context) {
	c.Text("kms:GrantOperations", in.Operations...)
	c.Text("kms:GranteePrincipal", in.Grantee)
	if in.Retiring != "" {
		c.Text("kms:RetiringPrincipal", in.Retiring)
	}
	c.Bool("kms:GrantIsForAWSResource", false)
	switch {
	case len(in.Constraints.Equals) > 0:
		c.Text("kms:GrantConstraintType", "EncryptionContextEquals")
		c.EncryptionContext(in.Constraints.Equals)
	case len(in.Constraints.Subset) > 0:
		c.Text("kms:GrantConstraintType", "EncryptionContextSubset")
		c.EncryptionContext(in.Constraints.Subset)
	}
}

// checkGrant is what is wrong with the request by itself. ErrValidation, ErrInvalidArn.
func (m *Manager) checkGrant(ctx context.Context, in CreateGrantInput) error {
	if err := m.checkGrantPrincipal(ctx, "granteePrincipal", in.Grantee); err != nil {
		return err
	}
	if in.Retiring != "" {
		if err := m.checkGrantPrincipal(ctx, "retiringPrincipal", in.Retiring); err != nil {
			return err
		}
	}
	if len(in.Operations) == 0 {
		return fault(ErrValidation, "1 validation error detected: Value at 'operations' failed to satisfy constraint: Member must not be null")
	}
	for _, op := range in.Operations {
		switch {
		case slices.Contains(elsewhereGrantable, op):
			return fault(ErrValidation, "Operation %s is not one of a symmetric key", op)
		case !slices.Contains(grantable, op):
			return fault(ErrValidation, "1 validation error detected: Value at 'operations' failed to satisfy constraint: Member must satisfy enum value set: [%s]", strings.Join(grantable, ", "))
		}
	}
	if in.Name != "" {
		if err := checkLength("name", in.Name, 1, MaxGrantName, true); err != nil {
			return err
		}
		if strings.ContainsFunc(in.Name, func(c rune) bool { return c > 0x7f || !aliasCharacter(byte(c)) }) {
			return fault(ErrValidation, "1 validation error detected: Value at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$")
		}
	}
	if !in.Expires.IsZero() && !in.Expires.After(m.now()) {
		return fault(ErrValidation, "the grant would have expired already")
	}
	return in.Constraints.check()
}

// checkGrantPrincipal allows users, roles and the account, as far as there are any; no groups, no services, not everybody. ErrValidation, ErrInvalidArn.
func (m *Manager) checkGrantPrincipal(ctx context.Context, member, arn string) error {
	if err := checkLength(member, arn, 1, MaxPrincipal, true); err != nil {
		return err
	}
	_, err := policy.PrincipalCovers(arn, policy.Principal{})
	if err == nil {
		err = m.resolvePrincipal(ctx)(arn)
	}
	if err != nil || arn == ViaFileDaemon || strings.HasPrefix(arn, policy.GroupARN(AccountID, "")) {
		return &Fault{Class: ErrInvalidArn, Message: "Invalid principal " + printable(arn), Cause: err}
	}
	return nil
}

// sameGrant finds the grant with the name and the parameters of g; nil if there is none, or g has no name.
func (m *Manager) sameGrant(ctx context.Context, g *grant) (*grant, error) {
	if g.Name == "" {
		return nil, nil
	}
	all, err := m.grantsOf(ctx, g.key, g.Grantee)
	for _, old := range all {
		if old.Name == g.Name && old.Retiring == g.Retiring && slices.Equal(old.Operations, g.Operations) && old.Constraints.same(g.Constraints) &&
			old.Expires.Equal(g.Expires) && old.Parent == g.Parent && old.CreatedBy == g.CreatedBy {
			return old, nil
		}
	}
	return nil, err
}

// ListGrants lists the grants of a key (id or ARN). Errors: ErrInvalidGrantID, ErrNotFound, ErrValidation, ErrInvalidMarker, ErrAccessDenied, ErrRecord.
func (m *Manager) ListGrants(ctx context.Context, by Caller, keyID string, filter GrantFilter, page Page) (GrantList, error) {
	var bad error
	if filter.ID != "" {
		_, bad = parseGrantID(filter.ID)
	}
	k, err := m.readable(ctx, by, "ListGrants", ask{key: keyID, bad: bad})
	if err != nil {
		return GrantList{}, err
	}
	prefix := key(rowGrant, k.id[:])
	limit, from, err := page.startIn(prefix, len(grantID{}), 50, 100)
	if err != nil {
		return GrantList{}, err
	}
	var list GrantList
	err = m.view(ctx, func(r kv.Reader) error {
		list = GrantList{}
		var bad error
		err := r.Scan(ctx, from, after(prefix), 0, func(row, v []byte) bool {
			var g *grant
			if g, bad = m.openGrant(row, v); bad != nil {
				return false
			}
			if filter.ID != "" && filter.ID != g.id.String() || filter.Grantee != "" && filter.Grantee != g.Grantee {
				return true
			}
			if len(list.Grants) == limit {
				list.NextMarker = marker(row)
				return false
			}
			list.Grants = append(list.Grants, g.public())
			return true
		})
		if bad != nil {
			return bad
		}
		return err
	})
	return list, err
}

// ListRetirableGrants lists the grants, of all keys, whose retiring principal it is. Errors: ErrValidation, ErrInvalidArn, ErrInvalidMarker, ErrAccessDenied, ErrRecord.
func (m *Manager) ListRetirableGrants(ctx context.Context, by Caller, retiring string, page Page) (GrantList, error) {
	u := &Use{Operation: "ListRetirableGrants", Detail: printable(retiring)}
	prefix := m.rows.tagged(rowRetiring, retiring)
	limit, from, err := page.startIn(prefix, len(keyUUID{})+len(grantID{}), 50, 100)
	if perr := m.checkGrantPrincipal(ctx, "retiringPrincipal", retiring); perr != nil {
		err = perr
	}
	if err == nil {
		err = m.authorise(ctx, by, u, u.Operation, nil, retiring, ask{})
	}
	if err == nil {
		u.Decision = Allow
	}
	if err := m.record(ctx, by, u, err); err != nil {
		return GrantList{}, err
	}
	var list GrantList
	err = m.view(ctx, func(r kv.Reader) error {
		list = GrantList{}
		all, next, err := m.indexed(ctx, r, prefix, from, limit)
		for _, g := range all {
			list.Grants = append(list.Grants, g.public())
		}
		list.NextMarker = next
		return err
	})
	return list, err
}
