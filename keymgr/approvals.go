package keymgr

import (
	"context"
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

// approvalRecord is the row of the setting. No row: nobody's approval is needed.
type approvalRecord struct {
	Approvers []string `json:"approvers"` // ARNs, sorted
}

// seconded is what a second person is asked for: a change for which the key store may demand one.
type seconded struct {
	params   any    // what is asked for: a request, without what is no part of it; it is carried out as it is marshalled
	free     bool   // it needs nobody, after all: set by the check
	answer   any    // where the change leaves what is kept of its answer, or gets it from where it was approved and carried out before; nil: it returns nothing
	withheld string // what is secret in the answer, and how one gets it
	given    bool   // it was approved and carried out before, and not now
}

// approval says that what a caller does was approved.
type approval struct {
	request requestID // which is used up by it
	by      string    // ARN of who approved it
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
func (m *Manager) waits(ctx context.Context, by Caller, s *seconded) (bool, error) {
	if s.free || by.approved != nil || by.isEmergency() {
		return false, nil
	}
	all, err := m.approvers(ctx)
	return len(all) > 0, err
}

// ApproveRequest carries out a request of somebody else, exactly as it was made, in that one's name and by that one's rights as they are now. The approver is on the list, is not the requester under another
// name, and may do the operation itself. It returns what was done. Errors: ErrNotFound (no such request, or no more), ErrAccessDenied, those of the operation, and those that are ErrKeyUnavailable.
func (m *Manager) ApproveRequest(ctx context.Context, by Caller, name string) (done string, err error) {
	u := &Use{Operation: "ApproveRequest", Detail: "request " + printable(name)}
	id, rec, err := m.waiting(ctx, name)
	var asked request
	if err == nil {
		u.Key, u.Detail = rec.Key, rec.title(id)
		asked, err = rec.asked()
	}
	if err == nil {
		err = m.mayApprove(ctx, by, u, &rec, asked)
	}
	if err == nil {
		u.Decision = Allow
	}
	if err = m.record(ctx, by, u, err); err != nil {
		return "", err
	}
	requester, err := m.requester(ctx, by, id, &rec)
	if err == nil {
		done, err = asked.carryOut(ctx, m, requester, rec.Key)
	}
	if err != nil {
		return "", m.record(ctx, by, u, err)
	}
	return done, nil
}

// mayApprove decides. ErrAccessDenied.
func (m *Manager) mayApprove(ctx context.Context, by Caller, u *Use, rec *requestRecord, asked request) error {
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
	if operations[rec.Operation].ownerOnly {
		u.Reason = "an approver"
		return nil
	}
	var k *cmk
	if rec.Key != "" {
		if k, err = m.resolve(ctx, rec.Key, false); err != nil {
			return err
		}
	}
	return m.authorise(ctx, by, u, rec.Operation, k, "", ask{key: rec.Key, conditions: asked.describeTo})
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
		u.Key, u.Detail = rec.Key, rec.title(id)
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
	})
}

// SetApproval names those who approve, at least MinApprovers identities or users of the host; none: nobody's approval is needed any more. For the owner alone, and in an emergency; while it is on, this needs
// approval itself. Errors: ErrValidation, ErrInvalidArn, ErrApprovalRequired, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) SetApproval(ctx context.Context, by Caller, approvers []string) error {
	approvers = slices.Compact(slices.Sorted(slices.Values(approvers)))
	u := &Use{Operation: "SetApproval", Detail: "off", Alert: true}
	if len(approvers) > 0 {
		u.Detail = "approvers: " + strings.Join(approvers, " ")
	}
	return m.perform(ctx, by, change{use: u, second: &seconded{params: setApprovalParams{approvers}}, check: func() (func(kv.Txn) error, error) {
		if !by.isEmergency() {
			if err := ownerOnly(by, u.Operation); err != nil {
				return nil, err
			}
		}
		if err := m.checkApprovers(ctx, approvers); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error {
			if len(approvers) == 0 {
				tx.Delete(key(rowApproval, nil))
				return nil
			}
			return m.rows.put(tx, key(rowApproval, nil), approvalRecord{approvers})
		}, nil
	}})
}

type setApprovalParams struct {
	Approvers []string `json:"approvers"`
}

func (in *setApprovalParams) describeTo(*policy.Context) {}

func (in *setApprovalParams) carryOut(ctx context.Context, m *Manager, by Caller, _ string) (string, error) {
	return "approvers are set", m.SetApproval(ctx, by, in.Approvers)
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
