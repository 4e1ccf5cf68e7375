package keymgr

import (
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// Event is the use as an audit event.
func (u *Use) Event() *audit.Event {
	e := &audit.Event{Class: u.class(), Source: audit.Keys, Name: u.Operation, Time: u.Time, RequestID: u.RequestID, ReadOnly: readOnly(u.Operation), Internal: u.internal(),
		Identity: audit.Identity{Principal: u.Principal, UID: u.UID, GID: u.GID, PID: u.PID, Program: u.Program, Via: u.Via},
		Object: audit.Object{Key: u.Key, KeyVersion: u.Version, Context: u.Context, DestinationKey: u.DestinationKey, DestinationVersion: u.DestinationVersion,
			DestinationContext: u.DestinationContext, Volume: u.Volume, Path: u.Path},
		Decision: audit.Decision(u.Decision), Statement: u.Reason, ErrorCode: u.Error, Detail: u.Detail, Alert: u.Alert}
	return e
}

// cryptographic are the operations that use a key, or decide on the use of one.
var cryptographic = []string{"Decrypt", "Encrypt", "GenerateDataKey", "ReEncrypt", "GenerateRandom", "Authorize"}

// readOnly says of an operation that it changes nothing, as CloudTrail does.
func readOnly(operation string) bool {
	for _, p := range append([]string{"List", "Get", "Describe"}, cryptographic...) {
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

// internal says of an operation that nobody asked for it.
func (u *Use) internal() bool {
	return u.Operation == "DeleteExpiredKeyMaterial" || u.Operation == "RotateKey" || u.Operation == "DeleteKey" || u.Operation == "SuspendKeyDeletion"
}
