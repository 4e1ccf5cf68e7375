package wire

import (
	"encoding/binary"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

// The bodies of our operations on approval and break-glass.

// ApproversBody is the input of SetApproval and the output of GetApproval.
type ApproversBody struct{ Approvers []string }

// ApprovalRequest names a request: the input of ApproveRequest, RejectRequest and GetApprovalRequest.
type ApprovalRequest struct{ RequestId string }

// ApproveResponse is the output of ApproveRequest.
type ApproveResponse struct{ Done string }

// PendingRequest is a line of ListApprovalRequests, and the output of GetApprovalRequest.
type PendingRequest struct {
	RequestId, Operation string
	KeyId                string `json:",omitempty"`
	Requester            string
	Created, Expires     Time
	Parameters           string // JSON

	Done     Time   `json:",omitzero"` // when it was carried out
	Approver string `json:",omitempty"`
	Answer   string `json:",omitempty"` // JSON
	Withheld string `json:",omitempty"`
}

// ListApprovalRequestsResponse is the output of ListApprovalRequests.
type ListApprovalRequestsResponse struct{ Requests []PendingRequest }

// FromRequests makes the wire's shape of a list of requests.
func FromRequests(list []keymgr.PendingRequest) ListApprovalRequestsResponse {
	out := ListApprovalRequestsResponse{Requests: []PendingRequest{}}
	for _, r := range list {
		out.Requests = append(out.Requests, FromRequest(r))
	}
	return out
}

// FromRequest makes the wire's shape of a request.
func FromRequest(r keymgr.PendingRequest) PendingRequest {
	return PendingRequest{r.ID, r.Operation, r.KeyID, r.Requester, Time{r.Created}, Time{r.Expires}, r.Parameters, Time{r.Done}, r.Approver, r.Answer, r.Withheld}
}

// Request is the inverse of FromRequest.
func (p PendingRequest) Request() keymgr.PendingRequest {
	return keymgr.PendingRequest{ID: p.RequestId, Operation: p.Operation, KeyID: p.KeyId, Requester: p.Requester, Created: p.Created.Time, Expires: p.Expires.Time, Parameters: p.Parameters,
		Done: p.Done.Time, Approver: p.Approver, Answer: p.Answer, Withheld: p.Withheld}
}

// List is the inverse of FromRequests.
func (r ListApprovalRequestsResponse) List() (list []keymgr.PendingRequest) {
	for _, p := range r.Requests {
		list = append(list, p.Request())
	}
	return list
}

// BreakGlassRequest is the input of SetBreakGlass and, with Seconds (0: the default) and Reason, of OpenBreakGlass.
type BreakGlassRequest struct {
	Secrets Secret `json:"-" secret:"Secrets"` // both: JoinSecrets
	Seconds int    `json:",omitempty"`
	Reason  string `json:",omitempty"`
}

// BreakGlassResponse is the output of OpenBreakGlass.
type BreakGlassResponse struct {
	Arn, AccessKeyId, SecretAccessKey string
	Until                             Time
}

// JoinSecrets puts two secrets into one, which the caller wipes: length of the first u16 || first || second.
func JoinSecrets(first, second []byte) Secret {
	b := make(Secret, 0, 2+len(first)+len(second))
	b = binary.BigEndian.AppendUint16(b, uint16(len(first)))
	return append(append(b, first...), second...)
}

// SplitSecrets is the inverse of JoinSecrets; what it returns lies in s. ErrValidation.
func SplitSecrets(s Secret) (first, second []byte, err error) {
	if len(s) < 2 || len(s)-2 < int(binary.BigEndian.Uint16(s)) {
		return nil, nil, &keymgr.Fault{Class: keymgr.ErrValidation, Message: "Secrets is not two secrets"}
	}
	n := int(binary.BigEndian.Uint16(s))
	return s[2 : 2+n], s[2+n:], nil
}

// Emergency is the state of break-glass in a status.
type Emergency struct {
	Set    Time
	Open   bool   `json:",omitempty"`
	Until  Time   `json:",omitzero"`
	Opened Time   `json:",omitzero"`
	By     string `json:",omitempty"`
	Reason string `json:",omitempty"`
}

func fromEmergency(e keymgr.Emergency) *Emergency {
	if e.Set.IsZero() {
		return nil
	}
	return &Emergency{Time{e.Set}, e.Open, Time{e.Until}, Time{e.Opened}, e.By, e.Reason}
}

func (e *Emergency) emergency() keymgr.Emergency {
	if e == nil {
		return keymgr.Emergency{}
	}
	return keymgr.Emergency{Set: e.Set.Time, Open: e.Open, Until: e.Until.Time, Opened: e.Opened.Time, By: e.By, Reason: e.Reason}
}

// Lasts is how long break-glass is asked for.
func (r *BreakGlassRequest) Lasts() time.Duration { return time.Duration(r.Seconds) * time.Second }
