package keymgr

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// identityCaller is an identity that has signed.
func identityCaller(name string) Caller {
	arn := userARN(name)
	return Caller{UID: -1, GID: -1, Principal: arn, RequestID: "s", Who: policy.Principal{ARN: arn, Account: AccountID}}
}

// approvalFixture has two approvers, ann and bob, both key administrators, and carl, who is one too but approves nothing.
func approvalFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	for _, name := range []string{"ann", "bob", "carl"} {
		if _, err := f.CreateIdentityAs(t.Context(), me, name, RoleKeyAdmin); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.SetApproval(t.Context(), me, []string{userARN("bob"), userARN("ann")}); err != nil {
		t.Fatal(err)
	}
	return f
}

var requestInMessage = regexp.MustCompile(`approve ([0-9a-f]{32})`)

// requested returns the id of the request that an error names.
func requested(t *testing.T, err error) string {
	t.Helper()
	id := requestInMessage.FindStringSubmatch(Message(err))
	if !errors.Is(err, ErrApprovalRequired) || id == nil {
		t.Fatalf("%v is no request that waits", err)
	}
	return id[1]
}

const ownPolicy = `{"Version":"2012-10-17","Statement":{"Sid":"own","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}}`

// TestApproval: each guarded change waits, survives a restart, is refused to who must not approve, and is then done once.
func TestApproval(t *testing.T) {
	tried := map[string]bool{}
	for name, c := range map[string]struct {
		ask  func(f *fixture, ctx context.Context, by Caller, key string) error
		done func(f *fixture, ctx context.Context, key string) bool
	}{
		"PutKeyPolicy": {func(f *fixture, ctx context.Context, by Caller, key string) error {
			return f.PutKeyPolicy(ctx, by, key, "", ownPolicy, false)
		},
			func(f *fixture, ctx context.Context, key string) bool {
				p, err := f.GetKeyPolicy(ctx, me, key, "")
				return err == nil && p == ownPolicy
			}},
		"CreateGrant": {func(f *fixture, ctx context.Context, by Caller, key string) error {
			_, err := f.CreateGrant(ctx, by, CreateGrantInput{KeyID: key, Grantee: userARN("carl"), Operations: []string{"DescribeKey"}})
			return err
		}, func(f *fixture, ctx context.Context, key string) bool {
			list, err := f.ListGrants(ctx, me, key, GrantFilter{}, Page{})
			return err == nil && len(list.Grants) == 1 && list.Grants[0].Grantee == userARN("carl")
		}},
		"ScheduleKeyDeletion": {func(f *fixture, ctx context.Context, by Caller, key string) error {
			_, err := f.ScheduleKeyDeletion(ctx, by, key, 9)
			return err
		}, func(f *fixture, ctx context.Context, key string) bool {
			md, err := f.DescribeKey(ctx, me, key)
			return err == nil && md.State == StatePendingDeletion && md.DeletionDate.Equal(f.now().UTC().Add(days(9)))
		}},
		"UpdateAlias": {func(f *fixture, ctx context.Context, by Caller, key string) error {
			if _, err := f.DescribeKey(ctx, me, "alias/moving"); err != nil {
				f.newKey(t, "alias/moving")
			}
			return f.UpdateAlias(ctx, by, "alias/moving", key)
		}, func(f *fixture, ctx context.Context, key string) bool {
			md, err := f.DescribeKey(ctx, me, "alias/moving")
			return err == nil && md.KeyID == key
		}},
		"DeleteAlias": {func(f *fixture, ctx context.Context, by Caller, _ string) error {
			return f.DeleteAlias(ctx, by, "alias/k")
		},
			func(f *fixture, ctx context.Context, _ string) bool {
				_, err := f.DescribeKey(ctx, me, "alias/k")
				return errors.Is(err, ErrNotFound)
			}},
		"DestroyKeyVersion": {func(f *fixture, ctx context.Context, by Caller, key string) error {
			if md, err := f.DescribeKey(ctx, me, key); err != nil {
				return err
			} else if len(md.Versions) == 1 {
				if _, err := f.RotateKeyOnDemand(ctx, me, key); err != nil {
					return err
				}
				f.clock.advance(VersionGrace, VersionGrace)
			}
			_, err := f.DestroyKeyVersion(ctx, by, DestroyVersionInput{KeyID: key, Version: 1, Lose: []blockcrypt.VolumeID{{7}}})
			return err
		}, func(f *fixture, ctx context.Context, key string) bool {
			md, err := f.DescribeKey(ctx, me, key)
			return err == nil && !md.Versions[0].Destroyed.IsZero()
		}},
		"CreateKey without the lockout check": {func(f *fixture, ctx context.Context, by Caller, _ string) error {
			_, err := f.CreateKey(ctx, by, CreateKeyInput{Alias: "alias/bypassed", Policy: strings.ReplaceAll(ownPolicy, "kms:*", "kms:DescribeKey"), Bypass: true})
			return err
		}, func(f *fixture, ctx context.Context, _ string) bool {
			_, err := f.DescribeKey(ctx, me, "alias/bypassed")
			return err == nil
		}},
		"SetApproval": {func(f *fixture, ctx context.Context, by Caller, _ string) error { return f.SetApproval(ctx, by, nil) },
			func(f *fixture, ctx context.Context, _ string) bool {
				all, err := f.Approvers(ctx)
				return err == nil && len(all) == 0
			}},
		"SetBreakGlass": {func(f *fixture, ctx context.Context, by Caller, _ string) error {
			return f.SetBreakGlass(ctx, by, []byte("the first secret"), []byte("the second secret"))
		}, func(f *fixture, ctx context.Context, _ string) bool {
			e, err := f.Emergency(ctx)
			return err == nil && !e.Set.IsZero()
		}},
	} {
		operation, _, _ := strings.Cut(name, " ")
		tried[operation] = true
		t.Run(name, func(t *testing.T) {
			f := approvalFixture(t)
			key := f.newKey(t, "alias/k").KeyID
			owner := me
			owner.Parameters = map[string]any{"asked": name}
			id := requested(t, c.ask(f, t.Context(), owner, key))
			if again := c.ask(f, t.Context(), owner, key); name != "SetBreakGlass" && !strings.HasPrefix(name, "CreateKey") && requested(t, again) != id { // those draw something
				t.Errorf("asked again, it is another request: %v", again)
			}
			f.reopen(t)
			if c.done(f, t.Context(), key) {
				t.Fatal("it is done before anybody approved")
			}
			for who, by := range map[string]Caller{"who asked": me, "no approver": identityCaller("carl"), "through a front end": {Who: identityCaller("ann").Who, Via: ViaFileDaemon}} {
				if _, err := f.ApproveRequest(t.Context(), by, id); !errors.Is(err, ErrAccessDenied) {
					t.Errorf("%s approves: %v", who, err)
				}
			}
			var wg sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				wg.Go(func() { _, errs[i] = f.ApproveRequest(t.Context(), identityCaller([]string{"ann", "bob"}[i%2]), id) })
			}
			wg.Wait()
			succeeded := 0
			for _, err := range errs {
				if err == nil {
					succeeded++
				} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInvalidState) && !errors.Is(err, ErrAlreadyExists) && !errors.Is(err, ErrAccessDenied) {
					t.Errorf("a race for approval: %v", err)
				}
			}
			if succeeded != 1 || !c.done(f, t.Context(), key) {
				t.Errorf("approved %d times, done %v: %v", succeeded, c.done(f, t.Context(), key), errs)
			}
			if _, err := f.ApproveRequest(t.Context(), identityCaller("ann"), id); err == nil {
				t.Error("it can be approved again")
			}
			var asked, approved, did bool
			for _, u := range f.tape.last(1000) {
				asked = asked || u.Operation == operation && u.Decision == Deny && u.Error == "ApprovalRequiredException" && strings.Contains(u.Detail, id) && u.Alert
				approved = approved || u.Operation == "ApproveRequest" && u.Decision == Allow && strings.Contains(u.Detail, id)
				did = did || u.Operation == operation && u.Decision == Allow && strings.Contains(u.Detail, "request "+id+", approved by "+userPrefix) && u.Alert && u.Parameters["asked"] == name
			}
			if !asked || !approved || !did {
				t.Errorf("recorded: asked %v, approved %v, done %v", asked, approved, did)
			}
		})
	}
	for name, is := range operations {
		if is.request != nil && !tried[name] {
			t.Errorf("%s is guarded, and not tried", name)
		}
	}
}

// TestApprovalIsForWhatWasAsked: an approval does nothing but what its request asks for.
func TestApprovalIsForWhatWasAsked(t *testing.T) {
	f := approvalFixture(t)
	ctx := t.Context()
	key, other := f.newKey(t, "alias/k").KeyID, f.newKey(t, "alias/other").KeyID
	name := requested(t, f.PutKeyPolicy(ctx, me, key, "", ownPolicy, false))
	id, rec, err := f.waiting(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	by, err := f.requester(ctx, identityCaller("ann"), id, &rec)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"another operation": f.UpdateAlias(ctx, by, "alias/k", other),
		"another key":       f.PutKeyPolicy(ctx, by, other, "", ownPolicy, false),
		"another policy":    f.PutKeyPolicy(ctx, by, key, "", string(policy.DefaultPolicy(AccountID)), false),
	} {
		if !errors.Is(err, ErrInternal) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := f.PutKeyPolicy(ctx, by, key, "", ownPolicy, false); err != nil {
		t.Error(err)
	}
	if md, err := f.DescribeKey(ctx, me, "alias/k"); err != nil || md.KeyID != key {
		t.Errorf("%+v, %v", md, err)
	}
}

// TestApprovalRefuses: rights count when a request is carried out, one person is not two, and time ends a request.
func TestApprovalRefuses(t *testing.T) {
	f := approvalFixture(t)
	ctx, ann, bob := t.Context(), identityCaller("ann"), identityCaller("bob")
	key := f.newKey(t, "").KeyID
	ask := func(by Caller) string {
		t.Helper()
		_, err := f.ScheduleKeyDeletion(ctx, by, key, 7)
		return requested(t, err)
	}
	refused := func(what string, by Caller, id string, want error) {
		t.Helper()
		if _, err := f.ApproveRequest(ctx, by, id); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if md, err := f.DescribeKey(ctx, me, key); err != nil || md.State != StateEnabled {
			t.Fatalf("%s: the key is %s, %v", what, md.State, err)
		}
	}
	own := ask(ann)
	refused("an approver's own request", ann, own, ErrAccessDenied)
	if err := f.MapIdentity(ctx, me, "ann", 4711, false); err != nil {
		t.Fatal(err)
	}
	asUser := Caller{UID: 4711, GID: 4711, Who: policy.Principal{ARN: policy.UserARN(AccountID, "annie"), Account: AccountID, Unix: &policy.Unix{UID: 4711, User: "annie"}}}
	mapped := ask(asUser) // ann's rights, by her user of the host
	refused("who is mapped to the approver", ann, mapped, ErrAccessDenied)

	if err := f.PutIdentityPolicy(ctx, me, "bob", "none", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:ScheduleKeyDeletion","Resource":"*"}}`); err != nil {
		t.Fatal(err)
	}
	refused("an approver without the right", bob, own, ErrAccessDenied)
	if err := f.DeleteIdentityPolicy(ctx, me, "bob", "none"); err != nil {
		t.Fatal(err)
	}
	byCarl := ask(identityCaller("carl"))
	if err := f.DisableIdentity(ctx, me, "carl", false); err != nil {
		t.Fatal(err)
	}
	refused("the requester is disabled meanwhile", bob, byCarl, ErrAccessDenied)

	for what, err := range map[string]error{
		"another's rejection": f.RejectRequest(ctx, Caller{Who: policy.Principal{ARN: policy.UserARN(AccountID, "eve"), Account: AccountID}}, own),
		"access key":          errOf(f.RotateIdentityKey(ctx, me, "bob")),
		"deletion":            f.DeleteIdentity(ctx, me, "bob"),
	} {
		if !errors.Is(err, ErrAccessDenied) {
			t.Errorf("%s of an approver: %v", what, err)
		}
	}
	if err := f.RejectRequest(ctx, bob, own); err != nil {
		t.Error(err)
	}
	refused("a rejected request", bob, own, ErrNotFound)
	if err := f.RejectRequest(ctx, identityCaller("carl"), byCarl); err != nil { // who made it takes it back
		t.Error(err)
	}
	f.clock.advance(time.Second, time.Second)
	late := ask(me)
	if list, err := f.ListRequests(ctx, ann); err != nil || len(list) != 2 || list[1].ID != late || !strings.Contains(list[1].Parameters, `"pendingWindowInDays":7`) {
		t.Errorf("what waits: %+v, %v", list, err)
	}
	if list, err := f.ListRequests(ctx, asUser); err != nil || len(list) != 1 || list[0].ID != mapped {
		t.Errorf("one's own: %+v, %v", list, err)
	}
	f.clock.advance(ApprovalLifetime, ApprovalLifetime)
	refused("an old request", bob, late, ErrNotFound)
	for _, arns := range [][]string{{userARN("ann")}, {userARN("ann"), userARN("ann")}, {userARN("ann"), userARN("nobody")}, {userARN("ann"), policy.GroupARN(AccountID, "us")}, {userARN("ann"), policy.RootARN(AccountID)}} {
		if err := f.SetApproval(ctx, me, arns); err == nil || errors.Is(err, ErrApprovalRequired) {
			t.Errorf("approvers %v: %v", arns, err)
		}
	}
	if err := f.SetApproval(ctx, ann, nil); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("an approver switches it off: %v", err)
	}
}

func errOf[T any](_ T, err error) error { return err }

// TestSameGrantNeedsNobody: another token of a grant that is there gives nothing away.
func TestSameGrantNeedsNobody(t *testing.T) {
	f := approvalFixture(t)
	in := CreateGrantInput{KeyID: f.newKey(t, "").KeyID, Name: "g", Grantee: userARN("carl"), Operations: []string{"Decrypt"}}
	owner := me
	owner.Principal = me.Who.ARN
	_, err := f.CreateGrant(t.Context(), owner, in)
	if _, err := f.ApproveRequest(t.Context(), identityCaller("bob"), requested(t, err)); err != nil {
		t.Fatal(err)
	}
	g, err := f.CreateGrant(t.Context(), owner, in)
	if err != nil || g.Token == "" {
		t.Errorf("another token: %+v, %v", g, err)
	}
	in.DryRun, in.Name = true, "other"
	if _, err := f.CreateGrant(t.Context(), me, in); !errors.Is(err, ErrDryRun) {
		t.Errorf("a dry run: %v", err)
	}
}

// TestBreakGlass: two secrets open it, for a time; it may do what is documented and no more; policies, approval and lockouts do not stop it; everything is an alert.
func TestBreakGlass(t *testing.T) {
	f := approvalFixture(t)
	ctx := t.Context()
	first, second := []byte("the first secret"), []byte("the second secret")
	if _, _, err := f.OpenBreakGlass(ctx, me, first, second, 0, "why"); !errors.Is(err, ErrNotFound) {
		t.Errorf("before it is set up: %v", err)
	}
	for _, pair := range [][2][]byte{{first, first}, {first, []byte("short")}, {first, make([]byte, 2000)}} {
		if err := f.SetBreakGlass(ctx, me, pair[0], pair[1]); !errors.Is(err, ErrValidation) {
			t.Errorf("secrets of %d and %d bytes: %v", len(pair[0]), len(pair[1]), err)
		}
	}
	if err := f.SetBreakGlass(ctx, identityCaller("ann"), first, second); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("set up by another: %v", err)
	}
	id := requested(t, f.SetBreakGlass(ctx, me, first, second))
	if list, err := f.ListRequests(ctx, identityCaller("bob")); err != nil || len(list) != 1 || list[0].Parameters != "{}" {
		t.Errorf("the request shows %+v, %v", list, err)
	}
	if _, err := f.ApproveRequest(ctx, identityCaller("bob"), id); err != nil {
		t.Fatal(err)
	}
	key := f.newKey(t, "alias/k").KeyID
	locked := strings.ReplaceAll(ownPolicy, "Allow", "Deny")
	if _, err := f.ApproveRequest(ctx, identityCaller("bob"), requested(t, f.PutKeyPolicy(ctx, me, key, "", locked, true))); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2][]byte{{first, []byte("the second secreT")}, {[]byte("the first secreT"), second}, {first, first}, {nil, nil}} {
		if _, _, err := f.OpenBreakGlass(ctx, me, bad[0], bad[1], 0, "why"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("%q: %v", bad, err)
		}
		if u := f.tape.last(1)[0]; u.Operation != "OpenBreakGlass" || u.Decision != Deny || !u.Alert {
			t.Errorf("recorded: %+v", u)
		}
	}
	if _, _, err := f.OpenBreakGlass(ctx, me, first, second, 5*time.Hour, "why"); !errors.Is(err, ErrValidation) {
		t.Errorf("for five hours: %v", err)
	}
	k, until, err := f.OpenBreakGlass(ctx, me, second, first, 30*time.Minute, "everybody is locked out")
	if err != nil || !until.Equal(f.now().UTC().Add(30*time.Minute)) {
		t.Fatal(until, err)
	}
	glass := func() (Caller, error) {
		_, who, err := f.Credentials(ctx, k.AccessKeyID)
		return Caller{UID: -1, GID: -1, Principal: who.ARN, Who: who}, err
	}
	by, err := glass()
	if err != nil || by.Who.ARN != EmergencyARN {
		t.Fatal(by, err)
	}
	if _, err := f.Encrypt(ctx, by, EncryptInput{KeyID: f.newKey(t, "").KeyID, Plaintext: []byte("p")}); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("it encrypts: %v", err)
	}
	if err := f.PutKeyPolicy(ctx, by, key, "", locked, false); !errors.Is(err, ErrMalformedPolicy) {
		t.Errorf("it leaves the key locked: %v", err)
	}
	if err := f.PutKeyPolicy(ctx, by, key, "", ownPolicy, false); err != nil { // without a second person
		t.Errorf("the policy: %v", err)
	}
	if u := f.tape.last(1)[0]; !u.Alert || u.Principal != EmergencyARN || u.Reason != "break-glass" {
		t.Errorf("recorded: %+v", u)
	}
	if _, err := f.DescribeKey(ctx, me, key); err != nil {
		t.Errorf("the owner is still locked out: %v", err)
	}
	if err := f.SetApproval(ctx, by, nil); err != nil {
		t.Errorf("approval off: %v", err)
	}
	for what, err := range map[string]error{
		"an identity": errOf(f.CreateIdentity(ctx, by, "mine", true)), "a deletion": errOf(f.ScheduleKeyDeletion(ctx, by, key, 7)),
		"a grant":  errOf(f.CreateGrant(ctx, by, CreateGrantInput{KeyID: key, Grantee: userARN("carl"), Operations: []string{"Decrypt"}})),
		"a key":    errOf(f.CreateKey(ctx, by, CreateKeyInput{})),
		"a backup": f.Backup(ctx, by, nil, nil), "other secrets": f.SetBreakGlass(ctx, by, first, second),
	} {
		if !errors.Is(err, ErrAccessDenied) {
			t.Errorf("it makes %s: %v", what, err)
		}
	}
	if e, err := f.Emergency(ctx); err != nil || !e.Open || e.Reason != "everybody is locked out" {
		t.Errorf("its state: %+v, %v", e, err)
	}
	f.clock.advance(-time.Hour, 31*time.Minute) // the wall clock is set back: that does not prolong it
	if _, err := glass(); !errors.Is(err, ErrUnrecognizedClient) {
		t.Errorf("after its time: %v", err)
	}
	if err := f.Observe(ctx, me); err != nil {
		t.Fatal(err)
	}
	if u := f.tape.last(1)[0]; u.Operation != "EndBreakGlass" || !u.Alert || !u.Event().Internal {
		t.Errorf("its end is recorded as %+v, internal %v", u, u.Event().Internal)
	}
	if k, _, err = f.OpenBreakGlass(ctx, me, first, second, 0, "again"); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	if _, err := glass(); !errors.Is(err, ErrUnrecognizedClient) {
		t.Errorf("after a restart: %v", err)
	}
	if e, err := f.Emergency(ctx); err != nil || e.Open || e.Reason != "again" || e.Opened.IsZero() {
		t.Errorf("after a restart: %+v, %v", e, err)
	}
	if _, err := f.CreateIdentity(ctx, me, "break-glass", true); !errors.Is(err, ErrValidation) {
		t.Errorf("an identity of its name: %v", err)
	}
	if k, _, err = f.OpenBreakGlass(ctx, me, first, second, 0, "once more"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.CloseBreakGlass(ctx, me)); err != nil {
		t.Error(err)
	}
	if _, err := glass(); !errors.Is(err, ErrUnrecognizedClient) {
		t.Errorf("after its end: %v", err)
	}
}
