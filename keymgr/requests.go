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

	"github.com/kmsfs/kmsfs/meta/kv"
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

// title says what a request is, for the record.
func (r *requestRecord) title(id requestID) string {
	return fmt.Sprintf("request %s: %s by %s", id, r.Operation, r.Requester.ARN)
}

// asked reads what is asked for. ErrInternal if it is nothing that waits.
func (r *requestRecord) asked() (request, error) {
	empty := operations[r.Operation].request
	if empty == nil {
		return nil, fmt.Errorf("request: operation %q: %w", printable(r.Operation), errRow)
	}
	in := empty()
	if err := json.Unmarshal(r.Parameters, in); err != nil {
		return nil, fmt.Errorf("request: %v: %w", err, errRow)
	}
	return in, nil
}

// postpone stores the request of u, or finds the one that is the same, and answers with its id: ErrApprovalRequired. The caller has taken changes.
func (m *Manager) postpone(ctx context.Context, by Caller, u *Use, s *seconded) error {
	params, err := json.Marshal(s.params)
	if err != nil {
		return m.record(ctx, by, u, fmt.Errorf("encode request: %w", err))
	}
	now := m.now().UTC()
	rec := requestRecord{Operation: u.Operation, Key: u.Key, Requester: requesterOf(by), Created: now, Expires: now.Add(ApprovalLifetime), Parameters: params, Asked: by.Parameters}
	if operations[u.Operation].newKey { // that key will have another id
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
	if operations[r.Operation].secret {
		p.Parameters = "{}" // hashes of secrets, for nobody to try out
	}
	return p
}
