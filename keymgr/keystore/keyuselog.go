package keystore

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
	"github.com/kmsfs/kmsfs/keymgr/audit/sink"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// KeyUseLog is the key daemon's stream of the audit log: what the key manager records goes there as events.
type KeyUseLog struct {
	Trail *trail.Log
}

var _ keymgr.Recorder = (*KeyUseLog)(nil)

// AuditOptions say how the audit log of a key store is kept; the zero value has the defaults of trail.Options.
type AuditOptions struct {
	Limit       time.Duration
	SegmentSize int64
	SegmentAge  time.Duration
	SealEvery   time.Duration
}

// AuditDir is where the audit log of the key store in dir is.
func AuditDir(dir string, cfg Config) string {
	if cfg.AuditDir != "" {
		return cfg.AuditDir
	}
	return filepath.Join(dir, auditName)
}

const auditName = "audit"

// Auditor seals events to the auditor, in a session of its own; nil if there is none. auditor.ErrKey.
func Auditor(cfg Config) (*auditor.Sealer, error) {
	if cfg.Auditor == "" {
		return nil, nil
	}
	key, err := auditor.ParsePublic(cfg.Auditor)
	if err != nil {
		return nil, err
	}
	return auditor.NewSealer(key)
}

// Sinks are the other places that get every event, made anew for who asks. sink.ErrSink.
func Sinks(cfg Config) ([]trail.Sink, error) {
	var out []trail.Sink
	for _, text := range cfg.AuditSinks {
		s, err := sink.Parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// ConfigureAudit says where the audit log of the key store in dir is from now on ("": in its default place), and who else gets its events; while no key daemon runs. The log is not moved:
// where it is missing, the key store does not open. Errors: ErrInUse, sink.ErrSink, those of Load.
func ConfigureAudit(dir, auditDir string, sinks []string, auditorKey string) error {
	lock, err := Acquire(dir)
	if err != nil {
		return err
	}
	defer lock.Release()
	cfg, err := Load(dir)
	if err != nil {
		return err
	}
	cfg.AuditDir, cfg.AuditSinks, cfg.Auditor = auditDir, sinks, auditorKey
	if err := cfg.check(); err != nil {
		return fmt.Errorf("configure the audit log of %s: %w", dir, err)
	}
	data, err := cfg.encode()
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, configName), data)
}

// LogPath is the directory of the key daemon's stream, where the audit log lies in its default place.
func LogPath(dir string) string { return filepath.Join(dir, auditName, trail.KeyStream) }

// OpenLog opens the key daemon's stream of a key store's audit log, or makes it. Errors: those of trail.Open.
func OpenLog(dir string, cfg Config, opts Options) (*KeyUseLog, error) {
	a := opts.Audit
	sinks, err := Sinks(cfg)
	if err != nil {
		return nil, err
	}
	to, err := Auditor(cfg)
	if err != nil {
		return nil, err
	}
	l, err := trail.Open(trail.Options{Auditor: to, Dir: AuditDir(dir, cfg), KeyStore: hex.EncodeToString(cfg.ID[:]), Stream: trail.KeyStream, Limit: a.Limit, SegmentSize: a.SegmentSize,
		SegmentAge: a.SegmentAge, SealEvery: a.SealEvery, Flushed: true, Sinks: sinks, Now: opts.Now, Log: opts.Log})
	if err != nil {
		return nil, err
	}
	return &KeyUseLog{l}, nil
}

// Record implements keymgr.Recorder.
func (l *KeyUseLog) Record(ctx context.Context, u keymgr.Use) error {
	return l.Trail.Record(ctx, u.Event())
}

// RecordEvent takes down an event that is no use of a key.
func (l *KeyUseLog) RecordEvent(ctx context.Context, e *audit.Event) error {
	return l.Trail.Record(ctx, e)
}

// Err is why the last events could not be written, nil if they could.
func (l *KeyUseLog) Err() error { return l.Trail.Err() }

// Close ends the stream.
func (l *KeyUseLog) Close() error { return l.Trail.Close() }
