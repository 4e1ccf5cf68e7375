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

func newMigrationRig(t *testing.T) *migrationRig {
	t.Helper()
	r := &migrationRig{token: hsmtest.NewSoftHSM(t), opts: Options{OpenKV: realTables, WorkerBinary: filepath.Join(t.TempDir(), "kmsfs-hsm-worker")}}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", r.opts.WorkerBinary, "github.com/kmsfs/kmsfs/cmd/kmsfs-hsm-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v: %s", err, out)
	}
	r.dir = filepath.Join(t.TempDir(), "ks")
	if _, err := Init(t.Context(), InitConfig{Dir: r.dir, Unlock: UnlockConfig{Kind: KeyFile}, Secret: buffer(t, keyText), Options: r.opts}); err != nil {
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
	return Migrate(t.Context(), MigrateConfig{Dir: r.dir, Secret: buffer(t, keyText), Token: TokenConfig{Kind: hsm.KindPKCS11, Module: r.token.Module, Label: label}, Unlock: UnlockConfig{Kind: PIN},
		PIN: buffer(t, r.token.PIN), Options: r.opts, after: after})
}

// TestMigrate: wherever a migration is cut short, the key store is the old one, unchanged, until it is the new one; blobs of the embedded token open in the HSM; what moved is said of each key.
func TestMigrate(t *testing.T) {
	r := newMigrationRig(t)
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
