package keystore

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// Where the audit log lies outside of the key store, a migration begins another one in another directory: the old one stays as it is, sealed, and the old key store's. Two markers of the same content pair a
// directory with the build that made something in it, so that the next try takes away what an interrupted one left there, and nothing else.

// checkNewLog refuses places where a new log cannot begin.
func checkNewLog(was Config, cfg MigrateConfig) error {
	if cfg.AuditDir == "" {
		if was.AuditDir == "" {
			return nil
		}
		return fmt.Errorf("%w: its audit log is kept at %s and stays there, whole, with the old key store; name another directory, new or empty, in which the new key store's begins: --audit-dir DIR", ErrNewLog, was.AuditDir)
	}
	if !filepath.IsAbs(cfg.AuditDir) || filepath.Clean(cfg.AuditDir) != cfg.AuditDir {
		return fmt.Errorf("%w: %s is no absolute path", ErrNewLog, cfg.AuditDir)
	}
	for _, dir := range []string{cfg.Dir, cfg.Dir + migrating} {
		if rel, err := filepath.Rel(dir, cfg.AuditDir); err == nil && filepath.IsLocal(rel) {
			return fmt.Errorf("%w: %s lies in the key store, whose directory changes its name", ErrNewLog, cfg.AuditDir)
		}
	}
	if cfg.AuditDir == was.AuditDir {
		return fmt.Errorf("%w: %s has the log up to now, which stays there, whole, with the old key store; name another directory", ErrNewLog, cfg.AuditDir)
	}
	return nil
}

// newMarker is what pairs a build with the directory of its log.
func newMarker(auditDir string) []byte { return []byte(rand.Text() + "\n" + auditDir) }

// auditDirOf is where the build of a marker has its log; "" in the key store.
func auditDirOf(mark []byte) string {
	_, dir, _ := bytes.Cut(mark, []byte("\n"))
	return string(dir)
}

// takeLogDir makes the directory of the new log, or takes an empty one, and marks it. ErrExists if there is something in it.
func takeLogDir(mark []byte) error {
	dir := auditDirOf(mark)
	if dir == "" {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("directory for the new audit log: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("directory for the new audit log: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s, where the new audit log is to begin, is not empty", ErrExists, dir)
	}
	return writeFile(filepath.Join(dir, marker), mark)
}

// clearLog takes away what an interrupted build left in the directory of its log, if it is still marked by it.
func clearLog(mark []byte) error {
	dir := auditDirOf(mark)
	if dir == "" {
		return nil
	}
	file := filepath.Join(dir, marker)
	got, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && !bytes.Equal(got, mark) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, trail.KeyStream)); err != nil {
		return err
	}
	return removeMarker(dir)
}
