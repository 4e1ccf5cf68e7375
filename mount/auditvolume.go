package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/mount/metrics"
)

// What becomes of successful access to files that cannot be recorded. Refusals and changes that cannot be recorded are never made.
const (
	AuditRefuse   = "refuse"   // it fails; the default
	AuditContinue = "continue" // it goes on, and the log says how often
)

// openAudit opens the volume's stream of the audit log of its key store, where the key daemon has its own. A log that does not contain its sealed head keeps the volume closed.
func (v *Volume) openAudit(ctx context.Context, cfg OpenConfig) error {
	st, err := v.keys.Status(ctx)
	if err != nil {
		return fmt.Errorf("place of the audit log: %w", err)
	}
	conf, err := keystore.Load(st.Dir)
	if err != nil {
		return fmt.Errorf("place of the audit log: %w", err)
	}
	sinks, err := keystore.Sinks(conf)
	if err != nil {
		return err
	}
	to, err := keystore.Auditor(conf)
	if err != nil {
		return err
	}
	spools, err := spoolDirs()
	if err != nil {
		return err
	}
	v.audit, err = trail.Open(trail.Options{Auditor: to, Dir: filepath.Dir(st.KeyUseLog), KeyStore: st.KeyStoreID, Stream: v.ID.String(), AccessContinues: cfg.AuditFailure == AuditContinue,
		Sinks: sinks, Spools: spools, Log: v.log})
	if err != nil {
		return err
	}
	if cfg.Metrics != nil {
		v.counted = metrics.NewAudit(cfg.Metrics, v.audit)
	}
	v.onClose(func(context.Context) error {
		if err := v.audit.Close(); err != nil { // nothing is lost, but it is not sealed to its end
			v.log.Warn("the audit log did not end cleanly", "error", err)
		}
		return nil
	})
	return adviseAudit(v.audit.Attach(ctx, v.keys))
}

// sharedMemory is a tmpfs on every host.
const sharedMemory = "/dev/shm"

// spoolDirs are the directories for the audit log's spool, in order: $KMSFS_SPOOL_DIR alone; else the runtime directory, which is on a tmpfs on most hosts, and one of this user in shared memory.
func spoolDirs() ([]string, error) {
	if dir := os.Getenv("KMSFS_SPOOL_DIR"); dir != "" {
		return []string{dir}, checkPrivateDir(dir)
	}
	run, err := RuntimeDir()
	if err != nil {
		return nil, err
	}
	shared := filepath.Join(sharedMemory, "kmsfs-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(shared, 0o700); err != nil && !errors.Is(err, os.ErrExist) || checkPrivateDir(shared) != nil {
		return []string{run}, nil
	}
	return []string{run, shared}, nil
}
