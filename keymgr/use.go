package keymgr

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// Recorder takes down key uses. Record returns when the record is durable; an error means that it is not, and the use is refused. It is bounded by its
// context and safe for concurrent use. keystore.KeyUseLog is the one on disk.
type Recorder interface {
	Record(ctx context.Context, u Use) error
}

// Decisions of a Use.
const (
	Allow = "allow" // the key manager agreed; Error says if the operation failed all the same
	Deny  = "deny"  // refused before anything was done
)

// Use is one line of the key-use log: an operation that used, changed or was refused a key. It names neither plaintext nor blob.
// A change is recorded before it is made, and once more if it then fails.
type Use struct {
	Time               time.Time `json:"time"`
	RequestID          string    `json:"requestId"`
	Operation          string    `json:"operation"`
	Principal          string    `json:"principal,omitempty"`
	UID                int       `json:"uid"`
	GID                int       `json:"gid"`
	PID                int       `json:"pid"`
	Via                string    `json:"via,omitempty"`
	Front              string    `json:"front,omitempty"` // ARN of the identity that forwarded a user of another host
	Volume             string    `json:"volume,omitempty"`
	Program            string    `json:"program,omitempty"`
	Path               string    `json:"path,omitempty"`
	Key                string    `json:"key,omitempty"` // ARN; what the caller named while it is not resolved
	Version            uint32    `json:"version,omitempty"`
	Material           string    `json:"material,omitempty"` // id of the version's material, in hex
	Context            Context   `json:"encryptionContext,omitempty"`
	DestinationKey     string    `json:"destinationKey,omitempty"` // of ReEncrypt
	DestinationVersion uint32    `json:"destinationVersion,omitempty"`
	DestinationContext Context   `json:"destinationEncryptionContext,omitempty"`
	Detail             string    `json:"detail,omitempty"` // what a change is about: an alias, a volume, a reason
	Decision           string    `json:"decision"`
	Reason             string    `json:"reason,omitempty"` // the statement of a policy, or the grant, that decided
	Error              string    `json:"error,omitempty"`  // code
	Message            string    `json:"message,omitempty"`

	AccessKeyID   string         `json:"accessKeyId,omitempty"` // of a signed request, as the next two
	SourceAddress string         `json:"sourceAddress,omitempty"`
	UserAgent     string         `json:"userAgent,omitempty"`
	TLS           *audit.TLS     `json:"tlsDetails,omitempty"`
	Parameters    map[string]any `json:"parameters,omitempty"` // requestParameters, but for key and encryption context: no secret, ciphertext or token
	Response      map[string]any `json:"response,omitempty"`   // responseElements of a change
	Alert         bool           `json:"alert,omitempty"`      // somebody should look at it, whoever did it
}

// recordTimeout bounds the wait for one record, whatever became of the request's own deadline.
const recordTimeout = 2 * time.Second

// record takes down the outcome of u and returns outcome, or ErrRecord if that could not be done. It works on after the request's context ended: an
// operation that ran into its deadline is recorded too.
func (m *Manager) record(ctx context.Context, by Caller, u *Use, outcome error) error {
	u.Time = m.now().UTC()
	u.RequestID, u.Principal, u.UID, u.GID, u.PID = by.RequestID, by.Principal, by.UID, by.GID, by.PID
	u.Front = by.Front.ARN
	u.Via, u.Volume, u.Program, u.Path = by.Via, by.Volume, by.Program, by.Path
	if u.RequestID == "" {
		u.RequestID = rand.Text()
	}
	if u.Decision == "" {
		u.Decision = Deny
	}
	u.Error, u.Message = Code(outcome), Message(outcome)
	u.describe(by)
	ctx, cancel := awake.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := m.recorder.Record(ctx, *u); err != nil {
		return &Fault{Class: ErrRecord, Message: "the key was not used", Cause: fmt.Errorf("record %s: %w", u.Operation, err)}
	}
	return outcome
}

// maxUserAgent bounds what a record says of the client's name for itself, in bytes.
const maxUserAgent = 256

// describe takes down from where the request came and what it said, as CloudTrail has it.
func (u *Use) describe(by Caller) {
	u.AccessKeyID, u.UserAgent = by.AccessKeyID, by.From.UserAgent[:min(len(by.From.UserAgent), maxUserAgent)]
	u.TLS = by.From.Details
	if by.From.Addr.IsValid() {
		u.SourceAddress = by.From.Addr.String()
	}
	if u.Parameters == nil {
		u.Parameters = by.Parameters
	}
	switch {
	case u.Error != "":
		u.Response = nil
	case u.Response == nil && u.class() == audit.Admin && u.Key != "":
		u.Response = map[string]any{"keyId": u.Key}
	}
}

// parameter notes a parameter of the request beside key and encryption context.
func (u *Use) parameter(name string, v any) {
	if u.Parameters == nil {
		u.Parameters = map[string]any{}
	}
	u.Parameters[name] = v
}

// uses notes the key and version that are used.
func (u *Use) uses(k *cmk, v *version) {
	if arn := k.id.ARN(); u.Key != arn {
		if u.Key != "" && u.Operation != "ReEncrypt" {
			u.parameter("keyId", u.Key) // as it was named
		}
		u.Key = arn
	}
	u.Version, u.Material = v.number, v.material.String()
}

// checkForwarded refuses a forwarded request for anything but the volume that its front end is registered for.
func checkForwarded(by Caller, contexts ...Context) error {
	if by.Via != ViaFileDaemon {
		return nil
	}
	for _, c := range contexts {
		if by.Volume == "" || c[ContextVolume] != by.Volume {
			return fault(ErrAccessDenied, "a front end may forward requests for its own volume only")
		}
	}
	return nil
}

// ContextVolume is the member of an encryption context that names the volume, as 32 hex digits.
const ContextVolume = "kmsfs:volume"
