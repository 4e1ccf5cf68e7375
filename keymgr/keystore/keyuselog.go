package keystore

import (
	"context"
	"encoding/hex"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
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
	Sinks       []trail.Sink
}

// AuditDir is where the audit log of the key store in dir is.
func AuditDir(dir string, cfg Config) string {
	if cfg.AuditDir != "" {
		return cfg.AuditDir
	}
	return filepath.Join(dir, auditName)
}

const auditName = "audit"

// LogPath is the directory of the key daemon's stream, where the audit log lies in its default place.
func LogPath(dir string) string { return filepath.Join(dir, auditName, trail.KeyStream) }

// OpenLog opens the key daemon's stream of a key store's audit log, or makes it. Errors: those of trail.Open.
func OpenLog(dir string, cfg Config, opts Options) (*KeyUseLog, error) {
	a := opts.Audit
	l, err := trail.Open(trail.Options{Dir: AuditDir(dir, cfg), KeyStore: hex.EncodeToString(cfg.ID[:]), Stream: trail.KeyStream, Limit: a.Limit, SegmentSize: a.SegmentSize,
		SegmentAge: a.SegmentAge, SealEvery: a.SealEvery, Sinks: a.Sinks, Now: opts.Now, Log: opts.Log})
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
