package mount

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/soft"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
	"github.com/kmsfs/kmsfs/keymgr/audit/sink"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/keymgr/server"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/mount/backup"
	"github.com/kmsfs/kmsfs/mount/control"
	"github.com/kmsfs/kmsfs/mount/jobs"
	"github.com/kmsfs/kmsfs/mount/metrics"
	"github.com/kmsfs/kmsfs/mount/superblock"
	"github.com/kmsfs/kmsfs/mount/transfer"
)

// Class is a kind of failure that a script may have to tell from others. Each has an exit code in cmd/kmsfs and a line in docs/CLI.md, and keeps
// its name when an error crosses a socket or a pipe.
type Class string

// The classes, in the order of docs/CLI.md.
const (
	ClassOther       Class = "error"
	ClassUsage       Class = "usage"
	ClassNotVolume   Class = "not-a-volume"
	ClassDamaged     Class = "damaged"
	ClassUnsupported Class = "unsupported"
	ClassInUse       Class = "in-use"
	ClassMountPoint  Class = "mount-point"
	ClassNotMounted  Class = "not-mounted"
	ClassBusy        Class = "busy"
	ClassNoFUSE      Class = "no-fuse"
	ClassNoSecret    Class = "no-secret"
	ClassWrongSecret Class = "wrong-secret"
	ClassLocked      Class = "key-store-locked"
	ClassKeyAway     Class = "key-unavailable"
	ClassKeyRefused  Class = "key-refused"
	ClassNotFound    Class = "not-found"
	ClassExists      Class = "exists"
	ClassRollback    Class = "rollback"
	ClassFaults      Class = "faults"
	ClassNoSpace     Class = "no-space"
	ClassPermission  Class = "permission"
	ClassPolicy      Class = "policy"
	ClassApproval    Class = "approval"
	ClassInterrupted Class = "interrupted"
)

// classOfError pairs a class with the errors it takes in; the first match wins, so the special stand before the general.
var classOfError = []struct {
	class  Class
	errors []error
}{
	{ClassPolicy, []error{policy.ErrMalformed, policy.ErrTooLarge, policy.ErrLockout, keymgr.ErrMalformedPolicy}},
	{ClassUsage, []error{ErrUsage, jobs.ErrEnded, keystore.ErrOtherKind, keystore.ErrNewLog, keymgr.ErrValidation, keymgr.ErrInvalidAlias, keymgr.ErrInvalidArn, server.ErrListen, server.ErrCertificate, sink.ErrSink, transfer.ErrOverlap, metrics.ErrAddress}},
	{ClassApproval, []error{keymgr.ErrApprovalRequired}},
	{ClassNoFUSE, []error{ErrNoFUSE, fs.ErrNoFUSE}},
	{ClassMountPoint, []error{ErrMountPoint}},
	{ClassNotMounted, []error{ErrNotMounted, syscall.ENOTCONN}},
	{ClassBusy, []error{ErrBusy, fs.ErrBusy, backup.ErrBusy}},
	{ClassInUse, []error{ErrInUse, keystore.ErrInUse, kv.ErrLocked, trail.ErrInUse, backup.ErrInUse}},
	{ClassExists, []error{iofs.ErrExist, ErrNotEmpty, keystore.ErrExists, keymgr.ErrAlreadyExists, hsm.ErrExists, backup.ErrOther}},
	{ClassNotVolume, []error{ErrNotVolume, superblock.ErrMissing, backup.ErrNotBackup}},
	{ClassUnsupported, []error{superblock.ErrVersion, superblock.ErrFeature, keystore.ErrVersion, soft.ErrVersion}},
	{ClassRollback, []error{kv.ErrRollback, keymgr.ErrRollback}},
	{ClassFaults, []error{ErrFaults, ErrIncomplete, ErrAuditFaults}},
	{ClassNoSecret, []error{ErrNoSecret, keystore.ErrNoSecret}},
	{ClassWrongSecret, []error{keymgr.ErrWrongSecret, hsm.ErrPIN}},
	{ClassLocked, []error{keymgr.ErrLocked}},
	{ClassKeyRefused, []error{jobs.ErrDenied, keymgr.ErrDisabled, keymgr.ErrInvalidState, keymgr.ErrAccessDenied, keymgr.ErrIncorrectKey, keymgr.ErrIncorrectMaterial, keystore.ErrUnmovable, keymgr.ErrInvalidImportToken, keymgr.ErrExpiredImportToken, keymgr.ErrLimit, meta.ErrKeyRevoked, syscall.EKEYREVOKED, syscall.EKEYEXPIRED}},
	{ClassKeyAway, []error{keymgr.ErrKeyUnavailable, hsm.ErrTokenAway, hsm.ErrModule, hsm.ErrUnfit, hsm.ErrLocked, meta.ErrKeyUnavailable, syscall.ENOKEY}},
	{ClassDamaged, []error{ErrDamaged, backup.ErrDamaged, superblock.ErrDamaged, superblock.ErrAuth, keymgr.ErrInvalidCiphertext, kv.ErrCorrupt, keystore.ErrDamaged, keystore.ErrBackup, hsm.ErrDamaged, meta.ErrAuth, meta.ErrCorrupt, trail.ErrDamaged, trail.ErrProof, seal.ErrSeal}},
	{ClassNotFound, []error{ErrNoPolicy, ErrNoDenial, jobs.ErrNoJob, keymgr.ErrNotFound, keystore.ErrNone, trail.ErrNoLog}},
	{ClassNoSpace, []error{kv.ErrNoSpace, audit.ErrFull, syscall.ENOSPC, syscall.EDQUOT}},
	{ClassInterrupted, []error{context.Canceled}},
	{ClassPermission, []error{iofs.ErrPermission, control.ErrPeer, keystore.ErrUnsafe, trail.ErrUnsafe}},
}

// Classes returns every class that ClassOf can return.
func Classes() []Class {
	all := []Class{ClassOther}
	for _, entry := range classOfError {
		all = append(all, entry.class)
	}
	return all
}

// ClassOf returns the class of an error, also of one that another process answered; ClassOther if it has none, "" for nil.
func ClassOf(err error) Class {
	if err == nil {
		return ""
	}
	var f *control.Failure
	if errors.As(err, &f) {
		return Class(f.Class)
	}
	for _, entry := range classOfError {
		for _, sentinel := range entry.errors {
			if errors.Is(err, sentinel) {
				return entry.class
			}
		}
	}
	return ClassOther
}

// failure is err as it travels to another process.
func failure(err error) *control.Failure {
	return &control.Failure{Class: string(ClassOf(err)), Text: err.Error(), Next: NextOf(err)}
}

// NextOf returns the advice that an error carries, or what is to be done about its sentinel wherever it comes from; "" if none.
func NextOf(err error) string {
	var a *Advice
	if errors.As(err, &a) {
		return a.Next
	}
	var f *control.Failure
	switch {
	case errors.As(err, &f):
		return f.Next
	case errors.Is(err, jobs.ErrNoJob):
		return "kmsfs jobs lists them"
	case errors.Is(err, trail.ErrNoLog):
		return "kmsfs keystore status says where the key store has its log"
	}
	return ""
}

// Advice is an error with what to do about it, where that is more than its class can say.
type Advice struct {
	Err  error
	Next string
}

func (a *Advice) Error() string { return a.Err.Error() }
func (a *Advice) Unwrap() error { return a.Err }

func advise(err error, format string, args ...any) error {
	return &Advice{Err: err, Next: fmt.Sprintf(format, args...)}
}
