package keymgr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// local is a user of the host.
func local(name string, groups ...string) Caller {
	return Caller{UID: 7, RequestID: "r", Principal: policy.UserARN(AccountID, name), Who: policy.Principal{ARN: policy.UserARN(AccountID, name), Account: AccountID,
		Unix: &policy.Unix{UID: 7, User: name, Groups: groups}}}
}

// forwarded is by as a file daemon forwards it.
func forwarded(by Caller, volume string) Caller {
	by.Via, by.Volume = ViaFileDaemon, volume
	return by
}

// policyOf is a key policy that delegates to the account and has these statements besides.
func policyOf(statements ...string) string {
	all := append([]string{`{"Sid":"Account","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}`}, statements...)
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(all, ",") + `]}`
}

func allowUser(name, action, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return fmt.Sprintf(`{"Sid":%q,"Effect":"Allow","Principal":{"AWS":%q},"Action":%q,"Resource":"*"%s}`, "For "+name, policy.UserARN(AccountID, name), action, condition)
}

func (f *fixture) setPolicy(t *testing.T, keyID, document string) {
	t.Helper()
	if err := f.PutKeyPolicy(t.Context(), me, keyID, "default", document, false); err != nil {
		t.Fatal(err)
	}
}

// TestEveryOperationIsDecided: nobody in particular may do nothing, in any state, and is told nothing about the state; the owner's policy decides, not the owner's
// name; and each decision is recorded with what decided.
func TestEveryOperationIsDecided(t *testing.T) {
	stranger := local("stranger")
	saved := me
	defer func() { me = saved }()
	for operation, run := range keyOperations {
		s := newSubject(t)
		s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
		me = stranger
		err := run(t.Context(), s)
		me = saved
		u := s.f.tape.last(1)[0]
		if !errors.Is(err, ErrAccessDenied) || u.Decision != Deny || u.Error != "AccessDeniedException" || !strings.HasPrefix(u.Reason, "no ") {
			t.Errorf("%s by a stranger: %v, recorded %+v", operation, err, u)
		}
	}
	for operation, run := range keyOperations {
		s := newSubject(t)
		if operation == "CancelKeyDeletion" || operation == "ConfirmKeyDeletion" {
			s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
		}
		if r := operations[operation].states; r == toImport || r == toDropMaterial {
			s.f.setStateTo(t, s.md.KeyID, StatePendingImport)
		}
		if err := run(t.Context(), s); err != nil {
			t.Errorf("%s by the owner: %v", operation, err)
		}
		if u := s.f.tape.last(1)[0]; u.Decision != Allow || !strings.Contains(u.Reason, ", statement 1 (") {
			t.Errorf("%s recorded %+v", operation, u)
		}
		deny := `{"Sid":"Nobody","Effect":"Deny","Principal":"*","NotAction":["kms:PutKeyPolicy"],"Resource":"*"}`
		if operation == "PutKeyPolicy" || operation == "ListAliases" || operation == "RetireGrant" { // not the key policy's to deny
			continue
		}
		s = newSubject(t)
		s.f.setPolicy(t, s.md.KeyID, policyOf(deny))
		if err := run(t.Context(), s); !errors.Is(err, ErrAccessDenied) {
			t.Errorf("%s against an explicit Deny: %v", operation, err)
		}
		if u := s.f.tape.last(1)[0]; !strings.Contains(u.Reason, "statement 2 (Nobody)") {
			t.Errorf("%s recorded %+v", operation, u)
		}
	}
}

// TestWithoutKey: what is not about a key is decided by identity policies alone.
func TestWithoutKey(t *testing.T) {
	f := newFixture(t)
	for name, run := range map[string]func(Caller) error{
		"CreateKey":      func(by Caller) error { return second(f.CreateKey(t.Context(), by, CreateKeyInput{})) },
		"ListKeys":       func(by Caller) error { return second(f.ListKeys(t.Context(), by, Page{})) },
		"ListAliases":    func(by Caller) error { return second(f.ListAliases(t.Context(), by, "", Page{})) },
		"GenerateRandom": func(by Caller) error { return second(f.GenerateRandom(t.Context(), by, 8)) },
		"PutVolume": func(by Caller) error {
			return f.PutVolume(t.Context(), by, VolumeRecord{ID: blockcrypt.VolumeID{1}, CMK: "x"})
		},
		"RestoreAnchor": func(by Caller) error {
			return f.RestoreAnchor(t.Context(), by, blockcrypt.VolumeID{1}, Anchor{}, "why")
		},
	} {
		for _, by := range []Caller{{}, local("stranger"), forwarded(local("stranger"), "v")} {
			if err := run(by); !errors.Is(err, ErrAccessDenied) {
				t.Errorf("%s by %q: %v", name, by.Who.ARN, err)
			}
		}
		if err := run(me); errors.Is(err, ErrAccessDenied) {
			t.Errorf("%s by the owner: %v", name, err)
		}
	}
}

// TestLocalPrincipals: users and groups of the host, their conditions, and what forwarded users may do with a key that says nothing about them.
func TestLocalPrincipals(t *testing.T) {
	volume := strings.Repeat("ab", 16)
	own := Context{ContextVolume: volume, "dept": "it"}
	f := newFixture(t)
	encrypt := func(by Caller, keyID string, c Context) error {
		return second(f.Encrypt(t.Context(), by, EncryptInput{KeyID: keyID, Plaintext: []byte("p"), Context: c}))
	}
	md := f.newKey(t, "alias/x")
	unresolved := local("")
	unresolved.Who.Unix = &policy.Unix{UID: 9, UnresolvedUser: true, UnresolvedGroups: true}
	unresolved.Who.ARN = "arn:aws:iam::000000000000:unix/uid/9"
	group := `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:unix/group/finance"},"Action":"kms:Encrypt","Resource":"*"}`
	denyAlice := strings.Replace(allowUser("alice", "kms:*", ""), "Allow", "Deny", 1)
	for i, c := range []struct {
		policy  string
		by      Caller
		name    string
		context Context
		allowed bool
	}{
		{policyOf(), local("alice"), md.KeyID, own, false},
		{policyOf(), forwarded(local("alice"), volume), md.KeyID, own, true},
		{policyOf(), forwarded(local("alice"), volume), md.KeyID, Context{ContextVolume: "other"}, false},
		{policyOf(), forwarded(unresolved, volume), md.KeyID, own, true},
		{policyOf(denyAlice), forwarded(local("alice"), volume), md.KeyID, own, false},
		{policyOf(denyAlice), forwarded(local("bob"), volume), md.KeyID, own, true},
		{policyOf(denyAlice), forwarded(unresolved, volume), md.KeyID, own, false},
		{policyOf(group), local("bob", "finance"), md.KeyID, nil, true},
		{policyOf(group), local("bob", "staff"), md.KeyID, nil, false},
		{policyOf(group), unresolved, md.KeyID, nil, false},
		{policyOf(allowUser("alice", "kms:Encrypt", "")), local("alice"), md.KeyID, nil, true},
		{policyOf(allowUser("alice", "kms:Decrypt", "")), local("alice"), md.KeyID, nil, false},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kms:EncryptionContext:Dept":"it"}}`)), local("alice"), md.KeyID, own, true},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kms:EncryptionContext:dept":"IT"}}`)), local("alice"), md.KeyID, own, false},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kms:ViaService":"kmsfs.local.amazonaws.com"}}`)), local("alice"), md.KeyID, nil, false},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kms:RequestAlias":"alias/x"}}`)), local("alice"), md.KeyID, nil, false},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kms:RequestAlias":"alias/x"}}`)), local("alice"), "alias/x", nil, true},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kmsfs:Program":"/bin/cat"}}`)), local("alice"), md.KeyID, nil, false},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"NumericEquals":{"kmsfs:Uid":"7"}}`)), local("alice"), md.KeyID, nil, true},
		{policyOf(allowUser("alice", "kms:Encrypt", `{"StringEquals":{"kms:EncryptionAlgorithm":"SYMMETRIC_DEFAULT","kms:KeySpec":"SYMMETRIC_DEFAULT","kms:KeyOrigin":"AWS_KMS"}}`)), local("alice"), md.KeyID, nil, true},
	} {
		f.setPolicy(t, md.KeyID, c.policy)
		err := encrypt(c.by, c.name, c.context)
		if (err == nil) != c.allowed || err != nil && !errors.Is(err, ErrAccessDenied) {
			t.Errorf("case %d: %q: %v, want allowed %v", i, c.by.Who.ARN, err, c.allowed)
		}
	}
	only := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:unix/user/me"},"Action":"kms:*","Resource":"*"}}`
	f.setPolicy(t, md.KeyID, only)
	if err := encrypt(forwarded(local("alice"), volume), md.KeyID, own); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("a key that delegates nothing: %v", err)
	}
}

// TestReEncryptNeedsBoth: the right on the source and on the destination, and conditions see whether they are one.
func TestReEncryptNeedsBoth(t *testing.T) {
	s := newSubject(t)
	alice := local("alice")
	move := func(to string) error {
		return second(s.f.ReEncrypt(t.Context(), alice, ReEncryptInput{Blob: s.blob, DestinationKeyID: to}))
	}
	s.f.setPolicy(t, s.md.KeyID, policyOf(allowUser("alice", "kms:ReEncryptFrom", "")))
	if err := move(s.other.KeyID); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("source alone: %v", err)
	}
	s.f.setPolicy(t, s.other.KeyID, policyOf(allowUser("alice", "kms:ReEncryptTo", `{"Bool":{"kms:ReEncryptOnSameKey":"false"}}`)))
	if err := move(s.other.KeyID); err != nil {
		t.Errorf("both: %v", err)
	}
	if u := s.f.tape.last(1)[0]; strings.Count(u.Reason, "(For alice)") != 2 {
		t.Errorf("recorded %+v", u)
	}
	s.f.setPolicy(t, s.md.KeyID, policyOf(allowUser("alice", "kms:ReEncrypt*", `{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`)))
	if err := move(s.other.KeyID); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("to another key: %v", err)
	}
	if err := move(s.md.KeyID); err != nil {
		t.Errorf("on the same key: %v", err)
	}
	s.f.setPolicy(t, s.md.KeyID, policyOf(allowUser("alice", "kms:ReEncryptTo", "")))
	if err := move(s.md.KeyID); !errors.Is(err, ErrAccessDenied) || Message(err) != denied {
		t.Errorf("destination alone: %v", err)
	}
}

func TestPutKeyPolicy(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	want := string(policy.DefaultPolicy(AccountID))
	if got, err := f.GetKeyPolicy(t.Context(), me, md.KeyID, ""); err != nil || got != want {
		t.Errorf("default policy %q %v", got, err)
	}
	text := " " + policyOf(allowUser("alice", "kms:Decrypt", "")) + "\n"
	f.setPolicy(t, md.KeyID, text)
	f.reopen(t)
	if got, err := f.GetKeyPolicy(t.Context(), me, md.KeyID, "default"); err != nil || got != text {
		t.Errorf("policy %q %v", got, err)
	}
	if names, err := f.ListKeyPolicies(t.Context(), me, md.KeyID, Page{}); err != nil || len(names) != 1 || names[0] != "default" {
		t.Errorf("%v %v", names, err)
	}
	locks := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:unix/user/alice"},"Action":"kms:*","Resource":"*"}}`
	fill := func(n int) string { return policyOf() + strings.Repeat(" ", n-len(policyOf())) }
	for name, c := range map[string]struct {
		policy, name string
		class        error
		message      string
	}{
		"lockout":       {locks, "", ErrMalformedPolicy, "The new key policy will not allow you to update the key policy in the future."},
		"not JSON":      {"{", "", ErrMalformedPolicy, "*"},
		"unknown key":   {policyOf(allowUser("alice", "kms:*", `{"StringEquals":{"kms:Nonsense":"x"}}`)), "", ErrMalformedPolicy, "*"},
		"principal":     {policyOf(strings.ReplaceAll(allowUser("x", "kms:*", ""), "unix/user/x", "role/x")), "", ErrMalformedPolicy, "Policy contains a statement with one or more invalid principals."},
		"other account": {policyOf(strings.ReplaceAll(allowUser("x", "kms:*", ""), AccountID, "111122223333")), "", ErrMalformedPolicy, "Policy contains a statement with one or more invalid principals."},
		"name":          {policyOf(), "other", ErrNotFound, "No such policy exists"},
		"empty":         {"", "", ErrValidation, "*"},
		"too long":      {fill(policy.MaxDocument + 1), "", ErrLimit, "*"},
		"longest":       {fill(policy.MaxDocument), "", nil, ""},
	} {
		err := f.PutKeyPolicy(t.Context(), me, md.KeyID, c.name, c.policy, false)
		if !errors.Is(err, c.class) || c.message != "*" && Message(err) != c.message {
			t.Errorf("%s: %v", name, err)
		}
		if c.name == "" {
			_, err = f.CreateKey(t.Context(), me, CreateKeyInput{Policy: c.policy})
			if name != "empty" && (!errors.Is(err, c.class) || c.message != "*" && Message(err) != c.message) {
				t.Errorf("created with %s: %v", name, err)
			}
		}
	}
	if got, err := f.GetKeyPolicy(t.Context(), me, md.KeyID, ""); err != nil || got != fill(policy.MaxDocument) {
		t.Errorf("a refused policy was stored: %.80q %v", got, err)
	}
	if err := f.PutKeyPolicy(t.Context(), me, md.KeyID, "", locks, true); err != nil {
		t.Errorf("bypassed: %v", err)
	}
	if u := f.tape.last(1)[0]; !strings.Contains(u.Detail, "bypassed") {
		t.Errorf("recorded %+v", u)
	}
	if err := f.PutKeyPolicy(t.Context(), me, md.KeyID, "", want, false); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("the owner, locked out: %v", err)
	}
	if err := f.PutKeyPolicy(t.Context(), local("alice"), md.KeyID, "", want, true); err != nil {
		t.Errorf("whom the policy names: %v", err)
	}
	if err := f.EnableKey(t.Context(), me, md.KeyID); err != nil {
		t.Errorf("the owner again: %v", err)
	}
	created, err := f.CreateKey(t.Context(), me, CreateKeyInput{Policy: text})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.GetKeyPolicy(t.Context(), me, created.KeyID, ""); err != nil || got != text {
		t.Errorf("created with a policy: %q %v", got, err)
	}
}

// TestParameterConditions: conditions on what a request asks for.
func TestParameterConditions(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	alice := local("alice")
	for i, c := range []struct {
		action, condition string
		run               func(context.Context) error
		allowed           bool
	}{
		{"kms:ScheduleKeyDeletion", `{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"20"}}`, func(ctx context.Context) error { return second(f.ScheduleKeyDeletion(ctx, alice, md.KeyID, 7)) }, false},
		{"kms:EnableKeyRotation", `{"NumericLessThan":{"kms:RotationPeriodInDays":"100"}}`, func(ctx context.Context) error { return f.EnableKeyRotation(ctx, alice, md.KeyID, 0) }, false},
		{"kms:EnableKeyRotation", `{"NumericLessThan":{"kms:RotationPeriodInDays":"100"}}`, func(ctx context.Context) error { return f.EnableKeyRotation(ctx, alice, md.KeyID, 90) }, true},
		{"kms:TagResource", `{"StringEquals":{"aws:RequestTag/Dept":"it"}}`, func(ctx context.Context) error { return f.TagResource(ctx, alice, md.KeyID, []Tag{{"Dept", "hr"}}) }, false},
		{"kms:TagResource", `{"StringEquals":{"aws:RequestTag/Dept":"it"}}`, func(ctx context.Context) error { return f.TagResource(ctx, alice, md.KeyID, []Tag{{"Dept", "it"}}) }, true},
		{"kms:DescribeKey", `{"StringEquals":{"aws:ResourceTag/Dept":"it"}}`, func(ctx context.Context) error { return second(f.DescribeKey(ctx, alice, md.KeyID)) }, true},
		{"kms:UntagResource", `{"ForAllValues:StringEquals":{"aws:TagKeys":["Other"]}}`, func(ctx context.Context) error { return f.UntagResource(ctx, alice, md.KeyID, []string{"Dept"}) }, false},
		{"kms:PutKeyPolicy", `{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}}`, func(ctx context.Context) error {
			return f.PutKeyPolicy(ctx, alice, md.KeyID, "", policyOf(), true)
		}, false},
	} {
		f.setPolicy(t, md.KeyID, policyOf(allowUser("alice", c.action, c.condition)))
		if err := c.run(t.Context()); (err == nil) != c.allowed || err != nil && !errors.Is(err, ErrAccessDenied) {
			t.Errorf("case %d, %s: %v, want allowed %v", i, c.action, err, c.allowed)
		}
	}
}
