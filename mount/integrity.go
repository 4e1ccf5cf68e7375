package mount

import (
	"context"
	"errors"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// recorder returns the volume's audit log, nil while it has none.
func (v *Volume) recorder() audit.Recorder {
	if v.audit == nil {
		return nil
	}
	return v.audit
}

// violation records that the volume is not as it was left: what was found, while doing what. It is the finding that counts; that it cannot be recorded is
// told to the daemon's log, and false.
func (v *Volume) violation(ctx context.Context, doing string, e audit.Event) (recorded bool) {
	log := v.recorder()
	if log == nil {
		return false
	}
	e.Class, e.Source, e.Name, e.Internal, e.ReadOnly, e.Decision, e.Detail = audit.Integrity, audit.Files, audit.Damage, true, true, audit.Deny, doing
	e.Volume = v.ID.String()
	if err := log.Record(ctx, &e); err != nil {
		v.log.Error("what was found could not be recorded in the audit log", "found", e.ErrorMessage, "error", err)
		return false
	}
	return true
}

// refused records why a volume is not opened, if that is because of what it is.
func (v *Volume) refused(ctx context.Context, cfg OpenConfig, cause error) {
	class := ClassOf(cause)
	if v.keys == nil || class != ClassRollback && class != ClassDamaged {
		return
	}
	if v.audit == nil {
		if err := v.openAudit(ctx, cfg); err != nil {
			v.log.Error("a refused volume could not be recorded in the audit log", "found", cause, "error", err)
			return
		}
	}
	code := "Damaged"
	if class == ClassRollback {
		code = "Rollback"
	}
	v.violation(ctx, "open volume", audit.Event{ErrorCode: code, ErrorMessage: withoutAdvice(cause).Error()})
}

// withoutAdvice is the error that advice was given for.
func withoutAdvice(err error) error {
	var a *Advice
	if errors.As(err, &a) {
		return a.Err
	}
	return err
}
