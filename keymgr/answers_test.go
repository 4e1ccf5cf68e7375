package keymgr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// approve has ann approve a request.
func (f *fixture) approve(t *testing.T, id string) {
	t.Helper()
	if _, err := f.ApproveRequest(t.Context(), identityCaller("ann"), id); err != nil {
		t.Fatal(err)
	}
}

// answerOf is the answer that GetRequest shows of a request.
func (f *fixture) answerOf(t *testing.T, by Caller, id string) (answer map[string]any, r PendingRequest) {
	t.Helper()
	r, err := f.GetRequest(t.Context(), by, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.Answer), &answer); err != nil {
		t.Fatalf("answer %q: %v", r.Answer, err)
	}
	return answer, r
}

// TestAnswers: who asked gets the answer of what was approved by the same call, once, over a restart, and nobody else does; nothing is done a second time.
func TestAnswers(t *testing.T) {
	carl := identityCaller("carl")
	for name, c := range map[string]struct {
		ask     func(f *fixture, ctx context.Context, by Caller, key string) (answer string, err error) // the answer as the request keeps it, "" for none
		members string                                                                                  // of what is kept
		after   error                                                                                   // of the call after that; nil: it waits again
	}{
		"PutKeyPolicy": {ask: func(f *fixture, ctx context.Context, by Caller, key string) (string, error) {
			return "", f.PutKeyPolicy(ctx, by, key, "", ownPolicy, false)
		}},
		"ScheduleKeyDeletion": {ask: func(f *fixture, ctx context.Context, by Caller, key string) (string, error) {
			out, err := f.ScheduleKeyDeletion(ctx, by, key, 9)
			return fmt.Sprint(out.KeyID, out.DeletionDate.UTC().Format(time.RFC3339Nano), out.Days), err
		}, members: "keyId deletionDate pendingWindowInDays", after: ErrInvalidState},
		"CreateGrant": {ask: func(f *fixture, ctx context.Context, by Caller, key string) (string, error) {
			out, err := f.CreateGrant(ctx, by, CreateGrantInput{KeyID: key, Grantee: userARN("carl"), Operations: []string{"Decrypt"}})
			if err == nil && out.Token == "" {
				err = errors.New("no token")
			}
			md, derr := f.DescribeKey(ctx, me, key)
			return fmt.Sprint(md.ARN, out.ID), errors.Join(err, derr)
		}, members: "keyId grantId"},
		"CreateKey": {ask: func(f *fixture, ctx context.Context, by Caller, _ string) (string, error) {
			md, err := f.CreateKey(ctx, by, CreateKeyInput{Alias: "alias/bypassed", Policy: ownPolicy, Bypass: true})
			return md.ARN, err
		}, members: "keyId", after: ErrAlreadyExists},
		"DeleteAlias": {ask: func(f *fixture, ctx context.Context, by Caller, _ string) (string, error) {
			return "", f.DeleteAlias(ctx, by, "alias/k")
		}, after: ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := approvalFixture(t)
			ctx := t.Context()
			key := f.newKey(t, "alias/k").KeyID
			ask := func(by Caller) (string, error) { return c.ask(f, ctx, by, key) }
			_, err := ask(carl)
			id := requested(t, err)
			if _, err = ask(carl); requested(t, err) != id {
				t.Errorf("asked again while it waits, it is another request: %v", err)
			}
			if _, r := f.answerOfNone(t, id); !r.Done.IsZero() {
				t.Errorf("it waits, and is shown as %+v", r)
			}
			f.approve(t, id)
			f.reopen(t)
			kept, r := f.answerOf(t, carl, id)
			if r.Approver != userARN("ann") || !r.Done.Equal(f.now()) || (name == "CreateGrant") != strings.Contains(r.Withheld, "secret") || len(kept) != len(strings.Fields(c.members)) {
				t.Errorf("carried out, and shown as %+v", r)
			}
			want := ""
			for _, m := range strings.Fields(c.members) {
				want = fmt.Sprint(want, kept[m])
			}
			if _, err := ask(me); err == nil {
				t.Error("another principal gets the answer")
			}
			f.tape.last(1000)
			got, err := ask(carl)
			if err != nil || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
				t.Errorf("asked again: %q, %v; want %q", got, err, want)
			}
			if u := f.tape.last(1)[0]; name != "CreateGrant" && name != "CreateKey" && (u.Operation != name || u.Decision != Allow || u.Alert || !strings.Contains(u.Detail, "nothing is done now: the answer of request "+id)) {
				t.Errorf("recorded: %+v", u)
			}
			_, err = ask(carl)
			if c.after == nil {
				if requested(t, err) == id {
					t.Error("the request that was carried out waits again")
				}
			} else if !errors.Is(err, c.after) {
				t.Errorf("asked once more: %v, want %v", err, c.after)
			}
			f.answerOf(t, me, id)
		})
	}
}

// answerOfNone is answerOf a request that waits.
func (f *fixture) answerOfNone(t *testing.T, id string) (string, PendingRequest) {
	t.Helper()
	r, err := f.GetRequest(t.Context(), me, id)
	if err != nil || r.Answer != "" || r.Withheld != "" || r.Approver != "" {
		t.Fatalf("a request that waits: %+v, %v", r, err)
	}
	return r.Answer, r
}

// TestAnswersAreTheRequesters: only who may do the thing gets its answer, only those concerned see it, what is gone since is not given, and it ends.
func TestAnswersAreTheRequesters(t *testing.T) {
	f := approvalFixture(t)
	ctx, carl := t.Context(), identityCaller("carl")
	key := f.newKey(t, "").KeyID
	in := CreateGrantInput{KeyID: key, Grantee: userARN("carl"), Operations: []string{"Decrypt"}}
	grant := func() string {
		t.Helper()
		_, err := f.CreateGrant(ctx, carl, in)
		id := requested(t, err)
		f.approve(t, id)
		return id
	}
	id := grant()
	if _, err := f.CreateIdentityAs(ctx, me, "eve", RoleKeyAdmin); err != nil {
		t.Fatal(err)
	}
	if _, err := f.GetRequest(ctx, identityCaller("eve"), id); !errors.Is(err, ErrNotFound) {
		t.Errorf("somebody else looks: %v", err)
	}
	for _, by := range []Caller{me, carl, identityCaller("bob")} {
		f.answerOf(t, by, id)
	}
	for _, bad := range []error{f.RejectRequest(ctx, carl, id), errOf(f.ApproveRequest(ctx, identityCaller("bob"), id))} {
		if !errors.Is(bad, ErrNotFound) {
			t.Errorf("rejected or approved when it is done: %v", bad)
		}
	}
	if list, err := f.ListRequests(ctx, me); err != nil || len(list) != 0 {
		t.Errorf("what waits: %+v, %v", list, err)
	}

	if err := f.PutIdentityPolicy(ctx, me, "carl", "none", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:CreateGrant","Resource":"*"}}`); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateGrant(ctx, carl, in); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("who may not any more asks again: %v", err)
	}
	if err := f.DeleteIdentityPolicy(ctx, me, "carl", "none"); err != nil {
		t.Fatal(err)
	}
	kept, _ := f.answerOf(t, carl, id)
	if err := f.RevokeGrant(ctx, me, key, kept["grantId"].(string), false); err != nil {
		t.Fatal(err)
	}
	if g, err := f.CreateGrant(ctx, carl, in); !errors.Is(err, ErrNotFound) || g.Token != "" {
		t.Errorf("the grant is revoked, asked again: %+v, %v", g, err)
	}

	id = grant()
	f.clock.advance(AnswerLifetime, AnswerLifetime)
	if _, err := f.GetRequest(ctx, me, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its time: %v", err)
	}
	_, err := f.CreateGrant(ctx, carl, in)
	requested(t, err)
	if all, err := f.requests(ctx); err != nil || len(all) != 1 {
		t.Errorf("%d rows are left, %v", len(all), err)
	}
}

// TestAnswersAreBounded: the oldest answers go, those that wait stay, and a long answer is not kept.
func TestAnswersAreBounded(t *testing.T) {
	f := approvalFixture(t)
	ctx := t.Context()
	key := f.newKey(t, "").KeyID
	_, err := f.ScheduleKeyDeletion(ctx, me, key, 7)
	waits := requested(t, err)
	now := f.now().UTC()
	if err := f.update(ctx, func(tx kv.Txn) error {
		for i := range maxAnswers {
			rec := requestRecord{Operation: "PutKeyPolicy", Created: now, Expires: now.Add(time.Hour), Parameters: json.RawMessage("{}"), Done: &doneRecord{Time: now.Add(time.Duration(i)), Answer: json.RawMessage("{}")}}
			id := requestID{1, byte(i)}
			if err := f.rows.put(tx, rowKeyOf(id), rec); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f.approve(t, requested(t, f.PutKeyPolicy(ctx, me, key, "", ownPolicy, false)))
	all, err := f.requests(ctx)
	if _, first := all[requestID{1, 0}]; err != nil || len(all) != maxAnswers+1 || first {
		t.Errorf("%d rows, the oldest among them: %v; %v", len(all), first, err)
	}
	if list, err := f.ListRequests(ctx, me); err != nil || len(list) != 1 || list[0].ID != waits {
		t.Errorf("what waits: %+v, %v", list, err)
	}
	s := &seconded{answer: strings.Repeat("x", maxAnswer)}
	if rec, err := s.done(now, "a"); err != nil || string(rec.Answer) != "{}" || !strings.Contains(rec.Withheld, "4098 bytes") {
		t.Errorf("a long answer: %+v, %v", rec, err)
	}
}

func rowKeyOf(id requestID) []byte { return key(rowRequest, id[:]) }
