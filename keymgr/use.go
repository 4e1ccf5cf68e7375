package keymgr

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
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
	Volume             string    `json:"volume,omitempty"`
	Program            string    `json:"program,omitempty"`
	Path               string    `json:"path,omitempty"`
	Key                string    `json:"key,omitempty"` // ARN; what the caller named while it is not resolved
	Version            uint32    `json:"version,omitempty"`
	Context            Context   `json:"encryptionContext,omitempty"`
	DestinationKey     string    `json:"destinationKey,omitempty"` // of ReEncrypt
	DestinationVersion uint32    `json:"destinationVersion,omitempty"`
	DestinationContext Context   `json:"destinationEncryptionContext,omitempty"`
	Detail             string    `json:"detail,omitempty"` // what a change is about: an alias, a volume, a reason
	Decision           string    `json:"decision"`
	Reason             string    `json:"reason,omitempty"` // the statement of a policy, or the grant, that decided
	Error              string    `json:"error,omitempty"`  // code
	Alert              bool      `json:"alert,omitempty"`  // somebody should look at it, whoever did it
}

// recordTimeout bounds the wait for one record, whatever became of the request's own deadline.
const recordTimeout = 2 * time.Second

// record takes down the outcome of u and returns outcome, or ErrRecord if that could not be done. It works on after the request's context ended: an
// operation that ran into its deadline is recorded too.
func (m *Manager) record(ctx context.Context, by Caller, u *Use, outcome error) error {
	u.Time = m.now().UTC()
	u.RequestID, u.Principal, u.UID, u.GID, u.PID = by.RequestID, by.Principal, by.UID, by.GID, by.PID
	u.Via, u.Volume, u.Program, u.Path = by.Via, by.Volume, by.Program, by.Path
	if u.RequestID == "" {
		u.RequestID = rand.Text()
	}
	if u.Decision == "" {
		u.Decision = Deny
	}
	u.Error = Code(outcome)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := m.recorder.Record(ctx, *u); err != nil {
		return &Fault{Class: ErrRecord, Message: "the key was not used", Cause: fmt.Errorf("record %s: %w", u.Operation, err)}
	}
	return outcome
}

// checkForwarded refuses a forwarded request for anything but the volume that its front end is registered for.
func checkForwarded(by Caller, contexts ...Context) error {
	if by.Via == "" {
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
