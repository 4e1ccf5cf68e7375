package wire

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// SealAuditRequest is the input of SealAudit: a claim about the stream of the connection's volume.
type SealAuditRequest struct {
	Stream     string
	From, Size int64
	Root       []byte
	Proof      [][]byte `json:",omitempty"`
	Clean      bool     `json:",omitempty"`
}

// SealAuditResponse is the output of SealAudit.
type SealAuditResponse struct{ Seal []byte }

// maxProof bounds the hashes of a proof: two for each level of a tree of 2^63 records.
const maxProof = 128

// FromClaim makes the wire's shape of a claim.
func FromClaim(c seal.Claim) SealAuditRequest {
	r := SealAuditRequest{Stream: c.Stream, From: c.From, Size: c.Size, Root: c.Root[:], Clean: c.Clean}
	for i := range c.Proof {
		r.Proof = append(r.Proof, c.Proof[i][:])
	}
	return r
}

// Claim is the inverse of FromClaim. ErrValidation for what is no claim.
func (r SealAuditRequest) Claim() (seal.Claim, error) {
	c := seal.Claim{Stream: r.Stream, From: r.From, Size: r.Size, Clean: r.Clean}
	ok := seal.ValidStream(r.Stream) && len(r.Proof) <= maxProof && r.From >= 0 && r.Size >= 0 && copyHash(&c.Root, r.Root)
	for _, p := range r.Proof {
		var h tlog.Hash
		ok = ok && copyHash(&h, p)
		c.Proof = append(c.Proof, h)
	}
	if !ok {
		return c, &keymgr.Fault{Class: keymgr.ErrValidation, Message: "not a claim about an audit stream"}
	}
	return c, nil
}

func copyHash(to *tlog.Hash, from []byte) bool {
	return copy(to[:], from) == len(from) && len(from) == len(to)
}

// AuditHead is an anchored head.
type AuditHead struct {
	Stream   string
	KeyStore string
	Size     int64
	Root     []byte
	Clean    bool            `json:",omitempty"`
	Archived int64           `json:",omitempty"`
	Seal     []byte          `json:",omitempty"`
	Accepted []AuditAccepted `json:",omitempty"`
}

// AuditAccepted is a head that was given up.
type AuditAccepted struct {
	Size   int64
	Root   []byte
	Time   time.Time
	Reason string
}

// AuditStreamRequest is the input of operations on one stream: GetAuditHead; ArchiveAuditLog with UpTo; AcceptAuditLog with Reason.
type AuditStreamRequest struct {
	Stream string
	UpTo   int64  `json:",omitempty"`
	Reason string `json:",omitempty"`
}

// AuditHeadResponse is the output of GetAuditHead.
type AuditHeadResponse struct{ Head AuditHead }

// ListAuditHeadsResponse is the output of ListAuditHeads. Key is the text of a seal.PublicKey.
type ListAuditHeadsResponse struct {
	Key   string
	Dir   string
	Heads []AuditHead
}

// FromAuditHead makes the wire's shape of an anchored head.
func FromAuditHead(a seal.Anchor) AuditHead {
	h := AuditHead{Stream: a.Stream, KeyStore: a.KeyStore, Size: a.Size, Root: a.Root[:], Clean: a.Clean, Archived: a.Archived, Seal: a.Seal}
	for _, x := range a.Accepted {
		h.Accepted = append(h.Accepted, AuditAccepted{Size: x.Size, Root: x.Root[:], Time: x.Time, Reason: x.Reason})
	}
	return h
}

// Anchor is the inverse of FromAuditHead. ErrValidation for what is no head.
func (h AuditHead) Anchor() (seal.Anchor, error) {
	a := seal.Anchor{Head: seal.Head{KeyStore: h.KeyStore, Stream: h.Stream, Size: h.Size}, Clean: h.Clean, Archived: h.Archived, Seal: h.Seal}
	ok := copyHash(&a.Root, h.Root)
	for _, x := range h.Accepted {
		y := seal.Accepted{Size: x.Size, Time: x.Time, Reason: x.Reason}
		ok = ok && copyHash(&y.Root, x.Root)
		a.Accepted = append(a.Accepted, y)
	}
	if !ok {
		return a, &keymgr.Fault{Class: keymgr.ErrValidation, Message: "not the head of an audit stream"}
	}
	return a, nil
}
