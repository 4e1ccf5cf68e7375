package keymgr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// The answer of a request that was approved is kept in its row for who asked: the same call gives it, once, and GetRequest shows it until the row goes.

// Limits of what is kept.
const (
	AnswerLifetime = ApprovalLifetime // after the request was carried out
	maxAnswers     = 256              // rows with one; the oldest go
	maxAnswer      = 4096             // bytes of JSON
)

// doneRecord says in a request's row that it was carried out.
type doneRecord struct {
	Time     time.Time       `json:"time"`
	Approver string          `json:"approver"`           // ARN
	Answer   json.RawMessage `json:"answer"`             // what the operation returned, without what is withheld
	Withheld string          `json:"withheld,omitempty"` // what is not kept of it, and how one gets it
	Given    bool            `json:"given,omitempty"`    // who asked has had it by the same call
}

// The answers that are kept.
type (
	keyAnswer struct {
		KeyID string `json:"keyId"` // ARN
	}
	grantAnswer struct {
		KeyID   string `json:"keyId"`
		GrantID string `json:"grantId"`
	}
	scheduleAnswer struct {
		KeyID        string    `json:"keyId"`
		DeletionDate time.Time `json:"deletionDate"`
		Days         int       `json:"pendingWindowInDays"`
	}
	versionAnswer struct {
		KeyID      string `json:"keyId"`
		MaterialID string `json:"materialId"`
		Version    uint32 `json:"version"`
	}
)

// done is what is kept when a request was carried out; approver is the ARN of who approved it.
func (s *seconded) done(now time.Time, approver string) (*doneRecord, error) {
	rec := &doneRecord{Time: now, Approver: approver, Answer: json.RawMessage("{}"), Withheld: s.withheld}
	if s.answer == nil {
		return rec, nil
	}
	answer, err := json.Marshal(s.answer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("encode answer: %w", err)
	case len(answer) > maxAnswer:
		rec.Withheld = fmt.Sprintf("the answer has %d bytes; %d are kept", len(answer), maxAnswer)
	default:
		rec.Answer = answer
	}
	return rec, nil
}

// usingUp is apply, which uses up the request that was approved: both or none, once, and only for what it asks for. Its row keeps the answer. ErrNotFound if it is used up already. The caller has taken changes.
func (m *Manager) usingUp(ctx context.Context, by Caller, u *Use, s *seconded, apply func(kv.Txn) error) (func(kv.Txn) error, error) {
	params, err := json.Marshal(s.params)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	all, err := m.requests(ctx)
	if err != nil {
		return nil, err
	}
	id, now := by.approved.request, m.now().UTC()
	superfluous := outdated(all, now)
	u.Detail = strings.TrimPrefix(fmt.Sprintf("%s; request %s, approved by %s", u.Detail, id, by.approved.by), "; ")
	return func(tx kv.Txn) error {
		rec, err := m.takeRequest(ctx, tx, id)
		if err != nil {
			return err
		}
		if !rec.asks(u.Operation, by.Who.ARN, params) {
			return fault(ErrInternal, "request %s asks for something else than %s", id, u.Operation)
		}
		if err := apply(tx); err != nil {
			return err
		}
		if rec.Done, err = s.done(now, by.approved.by); err != nil {
			return err
		}
		rec.Key, rec.Asked, rec.Expires = u.Key, nil, now.Add(AnswerLifetime)
		if operations[u.Operation].secret {
			rec.Parameters = json.RawMessage("{}")
		}
		for _, old := range superfluous {
			tx.Delete(key(rowRequest, old[:]))
		}
		return m.rows.put(tx, key(rowRequest, id[:]), rec)
	}, nil
}

// takeRequest reads a request that waits. ErrNotFound.
func (m *Manager) takeRequest(ctx context.Context, tx kv.Txn, id requestID) (rec requestRecord, err error) {
	found, err := m.rows.get(ctx, tx, key(rowRequest, id[:]), &rec)
	if err == nil && (!found || rec.Done != nil) {
		err = noRequest(id)
	}
	return rec, err
}

// outdated are the rows that need not be kept: what is void, and the oldest answers where there are too many for one more.
func outdated(all map[requestID]requestRecord, now time.Time) (ids []requestID) {
	var kept []requestID
	for id, r := range all {
		switch {
		case !now.Before(r.Expires):
			ids = append(ids, id)
		case r.Done != nil:
			kept = append(kept, id)
		}
	}
	if n := len(kept) - (maxAnswers - 1); n > 0 {
		slices.SortFunc(kept, func(a, b requestID) int {
			return cmp.Or(all[a].Done.Time.Compare(all[b].Done.Time), slices.Compare(a[:], b[:]))
		})
		ids = append(ids, kept[:n]...)
	}
	return ids
}

// answered says whether the caller asks again for what was approved and carried out meanwhile: then s.answer is its answer, this once, and nothing is done. refusal is why the change could not be made now, if it could
// not, as a key whose deletion is scheduled cannot have it scheduled again; who has no right to the change gets no answer of it. The caller has taken changes.
func (m *Manager) answered(ctx context.Context, by Caller, u *Use, s *seconded, refusal error) (bool, error) {
	if by.approved != nil || s.free && refusal == nil || by.isEmergency() || !bySuccess(refusal) {
		return false, nil
	}
	params, err := json.Marshal(s.params)
	if err != nil {
		return false, nil // the change says so
	}
	all, err := m.requests(ctx)
	if err != nil {
		return false, m.record(ctx, by, u, err)
	}
	id, rec := askedBefore(all, u.Operation, by.Who.ARN, params, m.now())
	if rec == nil {
		return false, nil
	}
	if s.answer != nil {
		if err := json.Unmarshal(rec.Done.Answer, s.answer); err != nil {
			return false, m.record(ctx, by, u, fmt.Errorf("answer of request %s: %v: %w", id, err, errRow))
		}
	}
	u.Decision, u.Reason, u.Key, u.Response, u.Alert = Allow, "who asked", rec.Key, nil, false
	u.Detail = fmt.Sprintf("nothing is done now: the answer of request %s, approved by %s", id, rec.Done.Approver)
	if err := m.record(ctx, by, u, nil); err != nil {
		return true, err
	}
	done := *rec.Done
	done.Given = true
	rec.Done = &done
	if err := m.commit(ctx, func(tx kv.Txn) error { return m.rows.put(tx, key(rowRequest, id[:]), *rec) }); err != nil {
		return true, m.record(ctx, by, u, err)
	}
	s.given = true
	return true, nil
}

// bySuccess says whether a change can be refused so because it was made already; nil is no refusal.
func bySuccess(refusal error) bool {
	return refusal == nil || slices.ContainsFunc([]error{ErrNotFound, ErrInvalidState, ErrDisabled, ErrAlreadyExists, ErrLimit}, func(class error) bool { return errors.Is(refusal, class) })
}

// askedBefore finds the oldest request that was carried out, asked the same by the same principal, and whose answer was not given. nil if there is none.
func askedBefore(all map[requestID]requestRecord, operation, arn string, params []byte, now time.Time) (id requestID, found *requestRecord) {
	for i, r := range all {
		if d := r.Done; d != nil && !d.Given && now.Before(r.Expires) && r.asks(operation, arn, params) && (found == nil || d.Time.Before(found.Done.Time)) {
			id, found = i, &r
		}
	}
	return id, found
}

// GetRequest shows a request that waits, or was carried out less than AnswerLifetime ago: the owner, approvers and who made it may see it. Errors: ErrValidation, ErrNotFound (also for what is not the caller's to see), and
// those that are ErrKeyUnavailable.
func (m *Manager) GetRequest(ctx context.Context, by Caller, name string) (PendingRequest, error) {
	u := &Use{Operation: "GetApprovalRequest", Decision: Allow, Detail: "request " + printable(name)}
	id, rec, err := m.visible(ctx, by, name)
	if err != nil {
		u.Decision = Deny
	} else {
		u.Key = rec.Key
	}
	if err := m.record(ctx, by, u, err); err != nil {
		return PendingRequest{}, err
	}
	return rec.public(id), nil
}

// visible finds a request that the caller may see. ErrNotFound.
func (m *Manager) visible(ctx context.Context, by Caller, name string) (id requestID, rec requestRecord, err error) {
	if id, err = parseRequestID(name); err != nil {
		return id, rec, err
	}
	all, err := m.requests(ctx)
	if err != nil {
		return id, rec, err
	}
	everything, err := m.seesRequests(ctx, by)
	if err != nil {
		return id, rec, err
	}
	rec, found := all[id]
	if !found || !m.now().Before(rec.Expires) || !everything && rec.Requester.ARN != by.Who.ARN {
		return id, rec, fault(ErrNotFound, "no request %s waits or was approved lately", id)
	}
	return id, rec, nil
}

// seesRequests says whether the caller may see those of others.
func (m *Manager) seesRequests(ctx context.Context, by Caller) (bool, error) {
	approvers, err := m.approvers(ctx)
	return by.Via == "" && (by.Who.Root || by.isEmergency() || slices.Contains(approvers, by.Who.ARN)), err
}
