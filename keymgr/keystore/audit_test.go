package keystore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
	"github.com/kmsfs/kmsfs/keymgr/audit/sink"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// TestAuditOfAStore: a key store's log is verified against its heads while nobody runs; one that was lost keeps the key store closed until its owner accepts that, and shows ever after.
func TestAuditOfAStore(t *testing.T) {
	s := &shelf{}
	dir, cfg := newKeyStore(t, s)
	opts := Options{OpenKV: s.open}
	if err := openStore(t, dir, nil, s).Close(); err != nil {
		t.Fatal(err)
	}
	faults := func() int {
		key, heads, err := AuditHeads(t.Context(), dir, nil, opts)
		if err != nil {
			t.Fatal(err)
		}
		reports, err := trail.Verify(t.Context(), AuditDir(dir, cfg), trail.Trust{Key: key, Anchors: heads, Complete: true})
		if err != nil || len(reports) != 1 {
			t.Fatalf("%+v, %v", reports, err)
		}
		return len(reports[0].Faults)
	}
	if n := faults(); n != 0 {
		t.Errorf("an untouched log has %d faults", n)
	}
	if err := os.RemoveAll(LogPath(dir)); err != nil {
		t.Fatal(err)
	}
	if faults() == 0 {
		t.Error("a log that is gone has no fault")
	}
	if _, err := Open(t.Context(), dir, nil, opts); !errors.Is(err, trail.ErrDamaged) {
		t.Errorf("open without the log: %v", err)
	}
	if err := AcceptAudit(t.Context(), dir, nil, opts, me, trail.KeyStream, "the disk died"); err != nil {
		t.Fatal(err)
	}
	if err := openStore(t, dir, nil, s).Close(); err != nil {
		t.Fatal(err)
	}
	if faults() == 0 {
		t.Error("a loss that was accepted is not shown")
	}
}

// TestConfigureAudit: the log's place and sinks are kept, what makes no sense is refused, and a key store whose log was not moved along stays closed.
func TestConfigureAudit(t *testing.T) {
	s := &shelf{}
	dir, _ := newKeyStore(t, s)
	if err := openStore(t, dir, nil, s).Close(); err != nil {
		t.Fatal(err)
	}
	if err := ConfigureAudit(dir, "", []string{"nonsense"}, ""); !errors.Is(err, sink.ErrSink) {
		t.Errorf("a sink that is none: %v", err)
	}
	if err := ConfigureAudit(dir, "", nil, "kmsfs-auditor-x25519:AAAA"); !errors.Is(err, auditor.ErrKey) {
		t.Errorf("%v", err)
	}
	if err := ConfigureAudit(dir, "relative", nil, ""); err == nil {
		t.Error("a relative path is taken")
	}
	to := filepath.Join(t.TempDir(), "elsewhere")
	if err := ConfigureAudit(dir, to, []string{"http://127.0.0.1:9/"}, ""); err != nil {
		t.Fatal(err)
	}
	if cfg, err := Load(dir); err != nil || AuditDir(dir, cfg) != to || len(cfg.AuditSinks) != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
	if _, err := Open(t.Context(), dir, nil, Options{OpenKV: s.open}); !errors.Is(err, trail.ErrDamaged) {
		t.Errorf("the log was not moved: %v", err)
	}
	if err := errors.Join(os.RemoveAll(to), os.Rename(filepath.Join(dir, "audit"), to)); err != nil {
		t.Fatal(err)
	}
	if err := openStore(t, dir, nil, s).Close(); err != nil {
		t.Fatal(err)
	}
}
