package keymgr

import (
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// Event is the use as an audit event.
func (u *Use) Event() *audit.Event {
	return &audit.Event{Class: u.class(), Source: audit.Keys, Name: u.Operation, Time: u.Time, RequestID: u.RequestID, ReadOnly: readOnly(u.Operation), Internal: operations[u.Operation].internal, Alert: u.Alert,
		Identity: audit.Identity{Principal: u.Principal, AccessKeyID: u.AccessKeyID, UID: u.UID, GID: u.GID, PID: u.PID, Program: u.Program, Via: u.Via, ForwardedBy: u.Front,
			SourceAddress: u.SourceAddress, UserAgent: u.UserAgent, TLS: u.TLS},
		Object: audit.Object{Key: u.Key, KeyVersion: u.Version, MaterialID: u.Material, Context: u.Context, DestinationKey: u.DestinationKey, DestinationVersion: u.DestinationVersion,
			DestinationContext: u.DestinationContext, Volume: u.Volume, Path: u.Path},
		Parameters: u.Parameters, Response: u.Response, Decision: audit.Decision(u.Decision), Statement: u.Reason, ErrorCode: u.Error, ErrorMessage: u.Message, Detail: u.Detail}
}

// reading is how operations begin that change nothing: those that look, those that use a key, and those that decide on the use of one.
var reading = []string{"Decrypt", "Encrypt", "GenerateDataKey", "ReEncrypt", "GenerateRandom", "Authorize", "List", "Get", "Describe"}

// readOnly says of an operation that it changes nothing, as CloudTrail does.
func readOnly(operation string) bool {
	for _, p := range reading {
		if strings.HasPrefix(operation, p) {
			return true
		}
	}
	return false
}

// class is what kind of event it is. A change that was refused is no change: it must not use the space that is kept for those that are made.
func (u *Use) class() audit.Class {
	switch {
	case u.Operation == "ArchiveAuditLog" && u.Decision == Allow:
		return audit.Repair
	case readOnly(u.Operation), u.Decision != Allow:
		return audit.KeyUse
	}
	return audit.Admin
}
