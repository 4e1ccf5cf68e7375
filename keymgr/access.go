package keymgr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// Origin is from where a request came, as far as policies may ask for it. The zero Origin is a process of this host.
type Origin struct {
	Addr      netip.Addr // of the peer; invalid on a Unix socket
	TLS       bool
	UserAgent string
	Details   *audit.TLS // for the record; nil where there is no TLS, and of requests that were approved later
}

// denied is AWS' answer to who may not open a blob, and to who asks about a blob of no known key: the two are not to be told apart.
const denied = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."

// builtin are the policies that nobody writes.
type builtin struct {
	key     *policy.Document // of keys without one of their own
	managed *policy.Document // of the service-managed key
	owner   *policy.Document // attached to the owner of the key store, the account's root, and to administrators
	files   *policy.Document // attached to every user of the host for whom a front end asks
	roles   map[string]*policy.Document
}

// ownerPolicy lets the account's root do what the key's policy leaves to the account, and everything that is not about a key.
const ownerPolicy = `{"Version":"2012-10-17","Statement":{"Sid":"Administrator","Effect":"Allow","Action":"kms:*","Resource":"*"}}`

// filesPolicy lets users touch files of mounts where the key's policy leaves it to the account: the keys of a mount are used on behalf of whoever touches a file. The same goes for users
// of another host whose key manager asks for them.
const filesPolicy = `{"Version":"2012-10-17","Statement":{"Sid":"Files","Effect":"Allow",
 "Action":["kms:Decrypt","kms:Encrypt","kms:GenerateDataKey*","kms:ReEncrypt*"],"Resource":"*",
 "Condition":{"StringEquals":{"kms:ViaService":["` + ViaFileDaemon + `","` + ViaKeyManager + `"]}}}}`

func newBuiltin() (b builtin, err error) {
	if b.key, err = policy.Parse(policy.DefaultPolicy(AccountID)); err != nil {
		return b, err
	}
	if b.managed, err = policy.Parse([]byte(managedPolicy)); err != nil {
		return b, err
	}
	identity := policy.Rules{Kind: policy.IdentityPolicy}
	if b.owner, err = identity.Parse([]byte(ownerPolicy)); err != nil {
		return b, err
	}
	if b.files, err = identity.Parse([]byte(filesPolicy)); err != nil {
		return b, err
	}
	b.roles, err = parseRoles()
	return b, err
}

// ask is what an operation asks for.
type ask struct {
	key        string                // as the caller named it
	bad        error                 // what is wrong with the request by itself
	byAlias    bool                  // an alias will do
	context    *Context              // encryption context; nil for operations that have none
	conditions func(*policy.Context) // nil, or sets what else a policy may ask for
	look       func(*cmk) error      // nil, or what else has to hold; after the decision
	tokens     []string              // grant tokens
	dryRun     bool                  // stop before anything is done, with ErrDryRun
}

// authorise is decide for those who need no more than the answer.
func (m *Manager) authorise(ctx context.Context, by Caller, u *Use, action string, k *cmk, resource string, a ask) error {
	_, err := m.decide(ctx, by, u, action, k, resource, a)
	return err
}

// decide decides by policies and grants whether the caller may do action; k is the key that it is about, nil for what is not about a key, and then resource is an alias'
// or principal's ARN or "". u is told what decided. ErrAccessDenied, ErrInvalidGrantToken, ErrValidation (tokens).
func (m *Manager) decide(ctx context.Context, by Caller, u *Use, action string, k *cmk, resource string, a ask) (decision, error) {
	if err := m.checkFront(ctx, by, u, k, a); err != nil {
		return decision{}, err
	}
	claims, err := m.tokens.readAll(a.tokens)
	if err != nil {
		return decision{}, err
	}
	r := m.request(by, action, k, resource, a)
	if by.isEmergency() {
		return decideEmergency(r, u, action)
	}
	var identity []policy.Decision
	documents, err := m.identityPolicies(ctx, by)
	if err != nil {
		return decision{}, err
	}
	for _, d := range documents {
		identity = append(identity, d.Evaluate(r))
	}
	out := decision{}
	var onKey *policy.Decision
	var granted []policy.Decision
	if k != nil {
		d := k.policy.Evaluate(r)
		onKey = &d
		if out.grants, err = m.usableGrants(ctx, by, action, k, a.context, claims); err != nil {
			return decision{}, err
		}
		for range out.grants {
			granted = append(granted, policy.ByGrant())
		}
	}
	out.Decision = policy.Combine(onKey, identity, granted)
	u.Reason = reason(out.Decision)
	if out.Effect != policy.Allow {
		return decision{}, fault(ErrAccessDenied, "%s", policy.Denial(r, out.Decision))
	}
	if out.Source == policy.FromGrant {
		u.Reason = "grant " + out.grants[0].id.String()
	}
	return out, nil
}

// usableGrants are the grants that allow the caller the action on the key: those of the caller, and of its account. One that is younger than the delay is seen by who presents its
// token only.
func (m *Manager) usableGrants(ctx context.Context, by Caller, action string, k *cmk, request *Context, claims []token) ([]*grant, error) {
	if k.record.Grants == 0 || !slices.Contains(grantable, action) {
		return nil, nil
	}
	names := []string{policy.RootARN(AccountID), AccountID}
	if by.Who.Account != AccountID {
		names = nil
	}
	if by.Who.ARN != "" && by.Who.ARN != policy.RootARN(AccountID) {
		names = append(names, by.Who.ARN)
	}
	now := m.now()
	var usable []*grant
	for _, name := range names {
		all, err := m.grantsOf(ctx, k.id, name)
		if err != nil {
			return nil, err
		}
		for _, g := range all {
			presented := slices.ContainsFunc(claims, func(t token) bool { return t.key == g.key && t.id == g.id && t.fresh(now) })
			if g.covers(action, request, now) && (presented || now.Sub(g.Created) >= m.grantDelay) {
				usable = append(usable, g)
			}
		}
	}
	return usable, nil
}

// reason names the statement that decided.
func reason(d policy.Decision) string {
	if d.Statement < 0 {
		return fmt.Sprintf("no %s allows it", d.Source)
	}
	s := fmt.Sprintf("%s, statement %d", d.Source, d.Statement+1)
	if d.Sid != "" {
		s += fmt.Sprintf(" (%s)", printable(d.Sid))
	}
	return s
}

// identityPolicies are the policies attached to the caller.
func (m *Manager) identityPolicies(ctx context.Context, by Caller) ([]*policy.Document, error) {
	var all []*policy.Document
	if by.Who.Root {
		all = append(all, m.builtin.owner)
	}
	if by.Via != "" && by.Who.Unix != nil {
		all = append(all, m.builtin.files)
	}
	rec, err := m.identityOf(ctx, by)
	if err != nil {
		return nil, err
	}
	if rec != nil {
		all = append(all, m.attached(rec)...)
	}
	return all, nil
}

// request is the caller's request as policies see it.
func (m *Manager) request(by Caller, action string, k *cmk, resource string, a ask) policy.Request {
	r := policy.Request{Principal: by.Who, Action: fullAction(action), Resource: resource, Time: m.now()}
	c := &r.Context
	if k != nil {
		r.Resource = k.id.ARN()
		if k.facts != nil {
			*c = policy.Over(k.facts)
		} else {
			k.describeTo(c)
		}
		if n, err := parseKeyName(a.key); err == nil && n.alias != "" {
			c.Text("kms:RequestAlias", n.alias)
		}
	}
	if a.context != nil {
		c.EncryptionContext(*a.context)
		c.Text("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT")
		c.Defaulted("kms:EncryptionAlgorithm")
	}
	if by.Via != "" {
		c.Text("kms:ViaService", by.Via)
	}
	by.originTo(c)
	if a.conditions != nil {
		a.conditions(c)
	}
	return r
}

// fullAction is the name of an action in policies: AWS' unless it says whose it is.
func fullAction(action string) string {
	if strings.Contains(action, ":") {
		return action
	}
	return "kms:" + action
}

// describeTo tells policies about the key.
func (k *cmk) describeTo(c *policy.Context) {
	for name, v := range map[string]string{"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT",
		"kms:CustomerMasterKeyUsage": "ENCRYPT_DECRYPT", "kms:KeyOrigin": k.origin()} {
		c.Text(name, v)
	}
	c.Bool("kms:MultiRegion", false)
	c.Text("kms:ResourceAliases", k.record.Aliases...)
	c.ResourceTags(k.tags)
}

// originTo tells policies from where the caller asks. Which program a process of this host runs is not proven to the key manager: a condition on it allows nothing.
func (by Caller) originTo(c *policy.Context) {
	c.Bool("aws:SecureTransport", by.From.TLS)
	c.Addr("aws:SourceIp", by.From.Addr)
	if by.From.UserAgent != "" {
		c.Text("aws:UserAgent", by.From.UserAgent)
	}
	if by.Volume != "" {
		c.Text("kmsfs:Volume", by.Volume)
	}
	if by.Who.Unix == nil {
		return
	}
	c.Unknown("kmsfs:Program")
	c.Unknown("kmsfs:ProgramSha256")
	if by.Path != "" {
		c.Text("kmsfs:Path", by.Path)
	}
	c.Unknown("kmsfs:Path") // another link of the file may be there
}

// Owner is the owner of a key store as the caller of what is done to it by a process of its own, without a server.
func Owner(uid, gid, pid int) Caller {
	arn := policy.RootARN(AccountID)
	return Caller{UID: uid, GID: gid, PID: pid, Principal: arn, Who: policy.Principal{ARN: arn, Account: AccountID, Root: true}}
}

// ownerOnly refuses what is for the owner of the key store alone.
func ownerOnly(by Caller, operation string) error {
	if by.Who.Root && by.Via == "" {
		return nil
	}
	return fault(ErrAccessDenied, "%s is for the owner of the key store alone", operation)
}

// policyFault gives an error of package policy its class and AWS' text.
func policyFault(err error) error {
	var e *policy.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, policy.ErrTooLarge):
		return &Fault{Class: ErrLimit, Message: fmt.Sprintf("The policy is longer than %d bytes", policy.MaxDocument), Cause: err}
	case errors.Is(err, policy.ErrLockout):
		return &Fault{Class: ErrMalformedPolicy, Message: "The new key policy will not allow you to update the key policy in the future.", Cause: err}
	case errors.Is(err, policy.ErrInvalidPrincipal):
		return &Fault{Class: ErrMalformedPolicy, Message: "Policy contains a statement with one or more invalid principals.", Cause: err}
	case errors.As(err, &e):
		return &Fault{Class: ErrMalformedPolicy, Message: e.Error()}
	}
	return err
}
