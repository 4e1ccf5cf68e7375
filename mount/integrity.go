package mount

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// recorder returns the volume's audit log, nil while it has none.
func (v *Volume) recorder() audit.Recorder {
	if v.audit == nil {
		return nil
	}
	if v.counted != nil {
		return v.counted
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

// refused records why a volume is not opened, if that is because of what it is: in its own stream of the audit log, or where that cannot be opened, in the
// key daemon's.
func (v *Volume) refused(ctx context.Context, cfg OpenConfig, cause error) {
	code := violationOf(cause)
	if code == "" {
		return
	}
	message := withoutAdvice(cause).Error()
	if v.keys != nil && (v.audit != nil || v.openAudit(ctx, cfg) == nil) && v.violation(ctx, "open volume", audit.Event{ErrorCode: code, ErrorMessage: message}) {
		return
	}
	keys := client.New(cfg.Socket, client.Options{})
	defer keys.Close()
	reportViolation(ctx, keys, client.Violation{Volume: v.ID, Path: v.Dir, Code: code, Message: message}, v.log)
}

// violationOf says what kind of finding an error is; "" for one that is none.
func violationOf(err error) string {
	switch ClassOf(err) {
	case ClassRollback:
		return "Rollback"
	case ClassDamaged:
		return "Damaged"
	case ClassUnsupported:
		return "Unsupported"
	}
	switch {
	case errors.Is(err, keymgr.ErrIncorrectKey), errors.Is(err, errForeign):
		return "ForeignKey"
	case errors.Is(err, errLost):
		return "Missing"
	}
	return ""
}

// reportViolation has the key daemon record a finding; that it cannot is told to log (nil: nobody).
func reportViolation(ctx context.Context, keys *client.Client, v client.Violation, log *slog.Logger) {
	if dir, err := filepath.Abs(v.Path); err == nil {
		v.Path = dir
	}
	if err := keys.ReportViolation(ctx, v); err != nil && log != nil {
		log.Error("a refused volume could not be recorded in the audit log", "found", v.Message, "error", err)
	}
}

// withoutAdvice is the error that advice was given for.
func withoutAdvice(err error) error {
	var a *Advice
	if errors.As(err, &a) {
		return a.Err
	}
	return err
}
