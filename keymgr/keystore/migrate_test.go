package keystore

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// realTables is an OpenKV on the disk.
func realTables(ctx context.Context, p KVParams) (kv.Store, error) {
	opts := local.Options{Dir: p.Dir, Volume: p.ID, Key: p.Key, SegmentSize: 256 << 10, MaxJournal: 1 << 20, MinFree: -1}
	if p.Create {
		if err := local.Create(ctx, opts); err != nil {
			return nil, err
		}
	}
	return local.Open(ctx, opts)
}

// migrationRig is a key store with an embedded token, a SoftHSM, and blobs.
type migrationRig struct {
	dir   string
	token *hsmtest.SoftHSM
	opts  Options
	key   keymgr.KeyMetadata
	blobs [][]byte // under two versions
}

func newMigrationRig(t *testing.T, auditDir string) *migrationRig {
	t.Helper()
	r := &migrationRig{token: hsmtest.NewSoftHSM(t), opts: Options{OpenKV: realTables, WorkerBinary: filepath.Join(t.TempDir(), "kmsfs-hsm-worker")}}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", r.opts.WorkerBinary, "github.com/kmsfs/kmsfs/cmd/kmsfs-hsm-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v: %s", err, out)
	}
	r.dir = filepath.Join(t.TempDir(), "ks")
	if _, err := Init(t.Context(), InitConfig{Dir: r.dir, Unlock: UnlockConfig{Kind: KeyFile}, Secret: buffer(t, keyText), AuditDir: auditDir, Options: r.opts}); err != nil {
		t.Fatal(err)
	}
	r.with(t, keyText, func(s *Store) {
		var err error
		if r.key, err = s.Manager.CreateKey(t.Context(), me, keymgr.CreateKeyInput{Alias: "alias/k"}); err != nil {
			t.Fatal(err)
		}
		r.seal(t, s)
		if _, err := s.Manager.RotateKeyOnDemand(t.Context(), me, r.key.KeyID); err != nil {
			t.Fatal(err)
		}
		r.seal(t, s)
	})
	return r
}

func (r *migrationRig) seal(t *testing.T, s *Store) {
	t.Helper()
	out, err := s.Manager.Encrypt(t.Context(), me, keymgr.EncryptInput{KeyID: r.key.KeyID, Plaintext: []byte("p"), Context: keymgr.Context{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	r.blobs = append(r.blobs, out.Blob)
}

// with opens the key store, sees that every blob opens, and calls fn.
func (r *migrationRig) with(t *testing.T, secret string, fn func(*Store)) {
	t.Helper()
	s, err := Open(t.Context(), r.dir, buffer(t, secret), r.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i, b := range r.blobs {
		if out, err := s.Manager.Decrypt(t.Context(), me, keymgr.DecryptInput{Blob: b, Context: keymgr.Context{"a": "b"}}); err != nil || string(out.Plaintext) != "p" {
			t.Fatalf("blob %d: %q, %v", i, out.Plaintext, err)
		}
	}
	if fn != nil {
		fn(s)
	}
}

func (r *migrationRig) migrate(t *testing.T, label string, after func(string) error) (Migrated, error) {
	t.Helper()
	return r.migrateTo(t, label, "", after)
}

// migrateTo is migrate, with a directory for the new log.
func (r *migrationRig) migrateTo(t *testing.T, label, auditDir string, after func(string) error) (Migrated, error) {
	t.Helper()
	return Migrate(t.Context(), MigrateConfig{Dir: r.dir, Secret: buffer(t, keyText), Token: TokenConfig{Kind: hsm.KindPKCS11, Module: r.token.Module, Label: label}, Unlock: UnlockConfig{Kind: PIN},
		PIN: buffer(t, r.token.PIN), AuditDir: auditDir, Options: r.opts, after: after})
}

// TestMigrate: wherever a migration is cut short, the key store is the old one, unchanged, until it is the new one; blobs of the embedded token open in the HSM; what moved is said of each key.
func TestMigrate(t *testing.T) {
	r := newMigrationRig(t, "")
	cut := errors.New("cut short")
	before, err := os.ReadFile(filepath.Join(r.dir, configName))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"copied", "imported", "settled", "built"} {
		_, err := r.migrate(t, r.token.Label, func(at string) error {
			if at == step {
				return cut
			}
			return nil
		})
		if now, rerr := os.ReadFile(filepath.Join(r.dir, configName)); !errors.Is(err, cut) || rerr != nil || string(now) != string(before) {
			t.Fatalf("cut short when %s: %v, %v", step, err, rerr)
		}
		r.with(t, keyText, nil)
	}
	if _, err := r.migrate(t, r.token.Label, func(at string) error {
		if at == "switched" {
			return cut
		}
		return nil
	}); !errors.Is(err, cut) {
		t.Fatal(err)
	}
	var sealed []byte
	r.with(t, r.token.PIN, func(s *Store) {
		md, err := s.Manager.DescribeKey(t.Context(), me, "alias/k")
		if err != nil || len(md.Versions) != 3 || md.Versions[0].MadeIn != hsm.KindSoft || md.Versions[1].MadeIn != hsm.KindSoft || md.Versions[2].MadeIn != "" {
			t.Errorf("the key: %+v, %v", md, err)
		}
		out, err := s.Manager.Encrypt(t.Context(), me, keymgr.EncryptInput{KeyID: r.key.KeyID, Plaintext: []byte("q"), Context: keymgr.Context{"a": "b"}})
		if err != nil {
			t.Fatal(err)
		}
		sealed = out.Blob
	})
	r.with(t, r.token.PIN, func(s *Store) { // once more: the generation is the token's
		if out, err := s.Manager.Decrypt(t.Context(), me, keymgr.DecryptInput{Blob: sealed, Context: keymgr.Context{"a": "b"}}); err != nil || string(out.Plaintext) != "q" {
			t.Errorf("what the HSM made: %q, %v", out.Plaintext, err)
		}
	})
	if _, err := r.migrate(t, r.token.Label, nil); !errors.Is(err, ErrUnmovable) {
		t.Errorf("to the token that it has: %v", err)
	}
	r.token.AddToken(t, "", "another")
	if _, err := r.migrate(t, "another", nil); !errors.Is(err, ErrExists) {
		t.Errorf("over the old key store: %v", err)
	}
	if err := os.Rename(r.dir+migrating, r.dir+setAsideName); err != nil { // the old one, which the cut left there
		t.Fatal(err)
	}
	_, err = Migrate(t.Context(), MigrateConfig{Dir: r.dir, Secret: buffer(t, r.token.PIN), Token: TokenConfig{Kind: hsm.KindPKCS11, Module: r.token.Module, Label: "another"}, Unlock: UnlockConfig{Kind: PIN},
		PIN: buffer(t, r.token.PIN), Options: r.opts})
	if !errors.Is(err, ErrUnmovable) {
		t.Errorf("from one HSM to another: %v", err)
	}
	r.with(t, r.token.PIN, nil)
	old := *r
	old.dir += setAsideName
	old.with(t, keyText, nil) // and it is whole
}

const setAsideName = before // which the test has another use for

// faults verifies the audit log of a key store against its heads.
func (r *migrationRig) faults(t *testing.T, dir, secret string) int {
	t.Helper()
	cfg, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, heads, err := AuditHeads(t.Context(), dir, buffer(t, secret), r.opts)
	if err != nil {
		t.Fatal(err)
	}
	reports, err := trail.Verify(t.Context(), AuditDir(dir, cfg), trail.Trust{Key: key, Anchors: heads, Complete: true})
	if err != nil || len(reports) != 1 || reports[0].Records == 0 {
		t.Fatalf("verify the log of %s: %+v, %v", dir, reports, err)
	}
	return len(reports[0].Faults)
}

// TestMigrateWithALogElsewhere: the old log stays where it is, whole; the new one begins in another directory, also after interruptions; nothing that is there already is taken or removed.
func TestMigrateWithALogElsewhere(t *testing.T) {
	logs := t.TempDir()
	first, second, foreign := filepath.Join(logs, "first"), filepath.Join(logs, "second"), filepath.Join(logs, "foreign")
	r := newMigrationRig(t, first)
	if err := os.MkdirAll(filepath.Join(foreign, trail.KeyStream), 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]error{"": ErrNewLog, first: ErrNewLog, "relative": ErrNewLog, filepath.Join(r.dir, "audit"): ErrNewLog, r.dir: ErrNewLog, filepath.Join(r.dir+migrating, "a"): ErrNewLog, foreign: ErrExists} {
		if _, err := r.migrateTo(t, r.token.Label, dir, nil); !errors.Is(err, want) {
			t.Errorf("a new log at %q: %v, want %v", dir, err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(foreign, trail.KeyStream)); err != nil {
		t.Errorf("another log: %v", err)
	}
	cut := errors.New("cut short")
	for _, step := range []string{"copied", "settled", "built"} {
		if _, err := r.migrateTo(t, r.token.Label, second, func(at string) error {
			if at == step {
				return cut
			}
			return nil
		}); !errors.Is(err, cut) {
			t.Fatalf("cut short when %s: %v", step, err)
		}
		r.with(t, keyText, nil)
	}
	out, err := r.migrateTo(t, r.token.Label, second, nil)
	if err != nil || out.Log != first || out.Old != r.dir+before {
		t.Fatalf("migrate: %+v, %v", out, err)
	}
	r.with(t, r.token.PIN, nil)
	r.with(t, r.token.PIN, nil)
	if n := r.faults(t, r.dir, r.token.PIN); n != 0 {
		t.Errorf("the new log has %d faults", n)
	}
	if n := r.faults(t, out.Old, keyText); n != 0 {
		t.Errorf("the old log has %d faults", n)
	}
	if cfg, err := Load(r.dir); err != nil || cfg.AuditDir != second {
		t.Errorf("the new key store's log is at %s, %v", cfg.AuditDir, err)
	}
	if left, err := filepath.Glob(filepath.Join(logs, "*", marker)); err != nil || len(left) > 0 {
		t.Errorf("markers are left: %v, %v", left, err)
	}
}

// TestClearLog: only the build that marked a directory takes its log away.
func TestClearLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	mark := newMarker(dir)
	stream := filepath.Join(dir, trail.KeyStream)
	if err := errors.Join(takeLogDir(mark), os.Mkdir(stream, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := clearLog(newMarker(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(stream); err != nil {
		t.Errorf("another build took the log away: %v", err)
	}
	if err := clearLog(mark); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := clearLog(mark); err != nil {
		t.Errorf("once more: %v", err)
	}
}
