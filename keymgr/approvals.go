package keymgr

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Limits of approval.
const (
	ApprovalLifetime = 72 * time.Hour // a request that nobody has approved by then is void
	MinApprovers     = 2
	MaxApprovers     = 16
	maxRequests      = 256 // that wait at a time
)

// PendingRequest is a change that waits for a second person, or has waited and was carried out.
type PendingRequest struct {
	ID         string // 32 hex digits
	Operation  string
	KeyID      string // ARN; "" where it is about no key yet
	Requester  string // ARN
	Created    time.Time
	Expires    time.Time
	Parameters string // what will be done, exactly: JSON

	Done     time.Time // when it was carried out; zero: it waits, and what follows is empty
	Approver string    // ARN
	Answer   string    // what the operation returned: JSON
	Withheld string    // what is not kept of it; "": nothing
}

// approvalRecord is the row of the setting. No row: nobody's approval is needed.
type approvalRecord struct {
	Approvers []string `json:"approvers"` // ARNs, sorted
}

// requestRecord is the row of a request.
type requestRecord struct {
	Operation  string          `json:"operation"`
	Key        string          `json:"key,omitempty"` // ARN
	Requester  requesterRecord `json:"requester"`
	Created    time.Time       `json:"created"`
	Expires    time.Time       `json:"expires"`
	Parameters json.RawMessage `json:"parameters"`
	Asked      map[string]any  `json:"asked,omitempty"` // requestParameters of the audit log
	Done       *doneRecord     `json:"done,omitempty"`  // nil: it waits
}

// requestID names a request; it is drawn.
type requestID [16]byte

func (id requestID) String() string { return hex.EncodeToString(id[:]) }

func parseRequestID(s string) (id requestID, err error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(id) {
		return id, fault(ErrValidation, "%s is not the id of a request", printable(s))
	}
	copy(id[:], raw)
	return id, nil
}

// guarded is a change for which the key store may demand a second person.
type guarded struct {
	params   any        // what is asked for; it marshals, and is carried out as it was marshalled
	free     bool       // it needs nobody, after all: set by the check
	approved *requestID // it was approved as this request, which is used up by it

	keep     func() any      // what is kept of the answer, called in the transaction when the change is made; nil: it returns nothing
	withheld string          // what is secret in the answer, and how one gets it
	given    json.RawMessage // not nil: it was approved and carried out before, with this answer, and not now
}

// approvers are those who may approve, nil while nobody need.
func (m *Manager) approvers(ctx context.Context) ([]string, error) {
	var rec approvalRecord
	err := m.view(ctx, func(r kv.Reader) (err error) {
		rec = approvalRecord{}
		_, err = m.rows.get(ctx, r, key(rowApproval, nil), &rec)
		return err
	})
	return rec.Approvers, err
}

// waits says whether the change has to wait for a second person.
func (m *Manager) waits(ctx context.Context, by Caller, g *guarded) (bool, error) {
	if g == nil || g.free || g.approved != nil || by.isEmergency() {
		return false, nil
	}
	all, err := m.approvers(ctx)
	return len(all) > 0, err
}

// postpone stores the request of u, or finds the one that is the same, and answers with its id: ErrApprovalRequired. The caller has taken changes.
func (m *Manager) postpone(ctx context.Context, by Caller, u *Use, g *guarded) error {
	params, err := json.Marshal(g.params)
	if err != nil {
		return m.record(ctx, by, u, fmt.Errorf("encode request: %w", err))
	}
	now := m.now().UTC()
	rec := requestRecord{Operation: u.Operation, Key: u.Key, Requester: requesterOf(by), Created: now, Expires: now.Add(ApprovalLifetime), Parameters: params, Asked: by.Parameters}
	if u.Operation == "CreateKey" { // that key will have another id
		rec.Key, u.Key = "", ""
	}
	all, err := m.requests(ctx)
	if err != nil {
		return m.record(ctx, by, u, err)
	}
	id, known, waiting := sameRequest(all, rec, now)
	if !known && waiting >= maxRequests {
		return m.record(ctx, by, u, fault(ErrLimit, "%d requests wait for approval already; approve or reject some", waiting))
	}
	u.Detail = strings.TrimPrefix(u.Detail+"; waits for approval as "+id.String(), "; ")
	answer := m.record(ctx, by, u, fault(ErrApprovalRequired, "the request waits for a second person, until %s: kmsfs approval approve %s; the same call gives the answer then", rec.Expires.Format(time.RFC3339), id))
	if known || Code(answer) != Code(ErrApprovalRequired) {
		return answer
	}
	err = m.commit(ctx, func(tx kv.Txn) error {
		for _, old := range outdated(all, now) {
			tx.Delete(key(rowRequest, old[:]))
		}
		return m.rows.put(tx, key(rowRequest, id[:]), rec)
	})
	if err != nil {
		return m.record(ctx, by, u, err)
	}
	return answer
}

// sameRequest finds the request that waits and asks the same, by the same principal; else id is a new one. waiting is how many wait.
func sameRequest(all map[requestID]requestRecord, rec requestRecord, now time.Time) (id requestID, known bool, waiting int) {
	_, _ = rand.Read(id[:])
	for i, r := range all {
		if r.Done != nil || !now.Before(r.Expires) {
			continue
		}
		waiting++
		if r.Key == rec.Key && r.asks(rec.Operation, rec.Requester.ARN, rec.Parameters) {
			id, known = i, true
		}
	}
	return id, known, waiting
}

// asks says whether a principal asks for the same again.
func (r *requestRecord) asks(operation, arn string, params []byte) bool {
	return r.Operation == operation && r.Requester.ARN == arn && bytes.Equal(r.Parameters, params)
}

// requests reads all requests, those that are void and those that were carried out too.
func (m *Manager) requests(ctx context.Context) (map[requestID]requestRecord, error) {
	all := map[requestID]requestRecord{}
	lo, hi := kindRange(rowRequest)
	err := m.view(ctx, func(r kv.Reader) error {
		clear(all)
		var bad error
		err := r.Scan(ctx, lo, hi, 0, func(k, v []byte) bool {
			var rec requestRecord
			if bad = m.rows.open(k, v, &rec); bad == nil && len(k) != 1+len(requestID{}) {
				bad = fmt.Errorf("request row %x: %w", k, errRow)
			}
			if bad == nil {
				all[requestID(k[1:])] = rec
			}
			return bad == nil
		})
		if bad != nil {
			return bad
		}
		return err
	})
	return all, err
}

func noRequest(id requestID) error {
	return fault(ErrNotFound, "no request %s waits for approval", id)
}

// waiting finds a request that waits. ErrNotFound.
func (m *Manager) waiting(ctx context.Context, name string) (requestID, requestRecord, error) {
	id, err := parseRequestID(name)
	if err != nil {
		return id, requestRecord{}, err
	}
	all, err := m.requests(ctx)
	if err != nil {
		return id, requestRecord{}, err
	}
	rec, ok := all[id]
	if !ok || rec.Done != nil || !m.now().Before(rec.Expires) {
		return id, rec, noRequest(id)
	}
	return id, rec, nil
}

// ListRequests lists the requests that wait: all of them for the owner and for approvers, one's own for everybody else. Errors: ErrRecord, and those that are ErrKeyUnavailable.
func (m *Manager) ListRequests(ctx context.Context, by Caller) ([]PendingRequest, error) {
	u := &Use{Operation: "ListApprovalRequests", Decision: Allow}
	all, err := m.requests(ctx)
	everything := false
	if err == nil {
		everything, err = m.seesRequests(ctx, by)
	}
	if err = m.record(ctx, by, u, err); err != nil {
		return nil, err
	}
	var list []PendingRequest
	for id, r := range all {
		if r.Done == nil && m.now().Before(r.Expires) && (everything || r.Requester.ARN == by.Who.ARN) {
			list = append(list, r.public(id))
		}
	}
	slices.SortFunc(list, func(a, b PendingRequest) int { return a.Created.Compare(b.Created) })
	return list, nil
}

func (r *requestRecord) public(id requestID) PendingRequest {
	p := PendingRequest{ID: id.String(), Operation: r.Operation, KeyID: r.Key, Requester: r.Requester.ARN, Created: r.Created, Expires: r.Expires, Parameters: string(r.Parameters)}
	if d := r.Done; d != nil {
		p.Done, p.Approver, p.Answer, p.Withheld = d.Time, d.Approver, string(d.Answer), d.Withheld
	}
	if r.Operation == "SetBreakGlass" {
		p.Parameters = "{}" // hashes of secrets, for nobody to try out
	}
	return p
}

// ApproveRequest carries out a request of somebody else, exactly as it was made, in that one's name and by that one's rights as they are now. The approver is on the list, is not the requester under another
// name, and may do the operation itself. It returns what was done. Errors: ErrNotFound (no such request, or no more), ErrAccessDenied, those of the operation, and those that are ErrKeyUnavailable.
func (m *Manager) ApproveRequest(ctx context.Context, by Caller, name string) (done string, err error) {
	u := &Use{Operation: "ApproveRequest", Detail: "request " + printable(name)}
	id, rec, err := m.waiting(ctx, name)
	var op guardedOperation
	if err == nil {
		u.Key, u.Detail = rec.Key, fmt.Sprintf("request %s: %s by %s", id, rec.Operation, rec.Requester.ARN)
		op, err = m.guardedOperation(&rec)
	}
	if err == nil {
		err = m.mayApprove(ctx, by, u, &rec, op)
	}
	if err == nil {
		u.Decision = Allow
	}
	if err = m.record(ctx, by, u, err); err != nil {
		return "", err
	}
	requester, err := m.requester(ctx, by, &rec)
	if err == nil {
		done, err = op.do(ctx, requester, &guarded{approved: &id})
	}
	if err != nil {
		return "", m.record(ctx, by, u, err)
	}
	return done, nil
}

// mayApprove decides. ErrAccessDenied.
func (m *Manager) mayApprove(ctx context.Context, by Caller, u *Use, rec *requestRecord, op guardedOperation) error {
	if err := m.isApprover(ctx, by); err != nil {
		return err
	}
	same, err := m.samePerson(ctx, by, rec)
	if err != nil {
		return err
	}
	if same {
		return fault(ErrAccessDenied, "a request is approved by somebody else than who made it")
	}
	if op.conditions == nil {
		u.Reason = "an approver"
		return nil
	}
	var k *cmk
	if rec.Key != "" {
		if k, err = m.resolve(ctx, rec.Key, false); err != nil {
			return err
		}
	}
	return m.authorise(ctx, by, u, rec.Operation, k, "", ask{key: rec.Key, conditions: op.conditions})
}

func (m *Manager) isApprover(ctx context.Context, by Caller) error {
	all, err := m.approvers(ctx)
	if err == nil && (by.Via != "" || !slices.Contains(all, by.Who.ARN)) {
		err = fault(ErrAccessDenied, "%s is not one of those who approve", by.Who.ARN)
	}
	return err
}

// samePerson reports whether the caller is who made the request, as an identity and the user of the host that it is mapped to are one.
func (m *Manager) samePerson(ctx context.Context, by Caller, rec *requestRecord) (bool, error) {
	a, err := m.personOf(ctx, by.Who)
	if err != nil {
		return false, err
	}
	b, err := m.personOf(ctx, rec.Requester.principal())
	return a == b || by.Who.ARN == rec.Requester.ARN, err
}

// personOf is the ARN of an identity also for the user that is mapped to it.
func (m *Manager) personOf(ctx context.Context, who policy.Principal) (string, error) {
	if who.Unix == nil {
		return who.ARN, nil
	}
	name, err := m.mappedTo(ctx, who.Unix.UID)
	if err != nil || name == "" {
		return who.ARN, err
	}
	return userARN(name), nil
}

// RejectRequest drops a request that waits; approvers may, and who made it. Errors: ErrNotFound, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) RejectRequest(ctx context.Context, by Caller, name string) error {
	u := &Use{Operation: "RejectRequest", Detail: "request " + printable(name)}
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		id, rec, err := m.waiting(ctx, name)
		if err != nil {
			return nil, err
		}
		u.Key, u.Detail = rec.Key, fmt.Sprintf("request %s: %s by %s", id, rec.Operation, rec.Requester.ARN)
		if rec.Requester.ARN != by.Who.ARN && !by.isEmergency() {
			if err := m.isApprover(ctx, by); err != nil {
				return nil, err
			}
		}
		return func(tx kv.Txn) error {
			_, err := m.takeRequest(ctx, tx, id)
			tx.Delete(key(rowRequest, id[:]))
			return err
		}, nil
	}, nil)
}

// SetApproval names those who approve, at least MinApprovers identities or users of the host; none: nobody's approval is needed any more. For the owner alone, and in an emergency; while it is on, this needs
// approval itself. Errors: ErrValidation, ErrInvalidArn, ErrApprovalRequired, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) SetApproval(ctx context.Context, by Caller, approvers []string) error {
	return m.setApproval(ctx, by, setApprovalParams{approvers}, &guarded{})
}

type setApprovalParams struct {
	Approvers []string `json:"approvers"`
}

func (m *Manager) setApproval(ctx context.Context, by Caller, in setApprovalParams, g *guarded) error {
	in.Approvers = slices.Compact(slices.Sorted(slices.Values(in.Approvers)))
	g.params = in
	u := &Use{Operation: "SetApproval", Detail: "off", Alert: true}
	if len(in.Approvers) > 0 {
		u.Detail = "approvers: " + strings.Join(in.Approvers, " ")
	}
	return m.changeGuarded(ctx, by, u, g, func() (func(kv.Txn) error, error) {
		if !by.isEmergency() {
			if err := ownerOnly(by, u.Operation); err != nil {
				return nil, err
			}
		}
		if err := m.checkApprovers(ctx, in.Approvers); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error {
			if len(in.Approvers) == 0 {
				tx.Delete(key(rowApproval, nil))
				return nil
			}
			return m.rows.put(tx, key(rowApproval, nil), approvalRecord{in.Approvers})
		}, nil
	}, nil)
}

// checkApprovers refuses what are no persons, and too few of them. ErrValidation, ErrInvalidArn.
func (m *Manager) checkApprovers(ctx context.Context, arns []string) error {
	if n := len(arns); n != 0 && (n < MinApprovers || n > MaxApprovers) {
		return fault(ErrValidation, "%d approvers: it takes %d to %d, so that each one's own requests can be approved", n, MinApprovers, MaxApprovers)
	}
	for _, arn := range arns {
		if err := m.checkGrantPrincipal(ctx, "approvers", arn); err != nil {
			return err
		}
		if !strings.HasPrefix(arn, userPrefix) && !strings.HasPrefix(arn, policy.UserARN(AccountID, "")) {
			return fault(ErrInvalidArn, "%s is no person's: identities and users of the host approve", printable(arn))
		}
	}
	return nil
}

// Approvers are the ARNs of those who approve; none while nobody's approval is needed. Everybody may know.
func (m *Manager) Approvers(ctx context.Context) ([]string, error) { return m.approvers(ctx) }

// keptApprover refuses to give away the access key of somebody who approves, or to delete that one: who does that would approve in its place.
func (m *Manager) keptApprover(ctx context.Context, by Caller, name string) error {
	all, err := m.approvers(ctx)
	if err == nil && !by.isEmergency() && slices.Contains(all, userARN(name)) {
		err = fault(ErrAccessDenied, "%s approves requests: name other approvers first, which needs approval", printable(name))
	}
	return err
}
