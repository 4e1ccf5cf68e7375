package keystore

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

func TestChangeSecret(t *testing.T) {
	dir := t.TempDir() + "/ks"
	opts := Options{OpenKV: new(shelf).open}
	one, two := buffer(t, "one"), buffer(t, "two")
	unlock := UnlockConfig{Kind: Passphrase}
	if _, err := Init(t.Context(), InitConfig{Dir: dir, Unlock: unlock, Secret: one, Options: opts}); err != nil {
		t.Fatal(err)
	}
	if err := ChangeSecret(t.Context(), dir, two, one, unlock, opts); !errors.Is(err, hsm.ErrPIN) {
		t.Fatalf("wrong old secret: %v", err)
	}
	if err := ChangeSecret(t.Context(), dir, one, two, UnlockConfig{Kind: KeyFile, KeyFile: "/k"}, opts); !errors.Is(err, ErrOtherKind) {
		t.Fatalf("another kind: %v", err)
	}
	if err := ChangeSecret(t.Context(), dir, one, two, unlock, opts); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, one, opts); !errors.Is(err, hsm.ErrPIN) {
		t.Fatalf("the old secret: %v", err)
	}
	s, err := Open(t.Context(), dir, two, opts)
	if err != nil {
		t.Fatalf("the new secret: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found := 0
	err = trail.Search(t.Context(), filepath.Join(dir, "audit"), trail.Query{Name: "ChangeSecret"}, func(trail.Found) error { found++; return nil })
	if err != nil || found != 1 {
		t.Fatalf("the audit log has %d changes of the secret: %v", found, err)
	}
	lock, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := ChangeSecret(t.Context(), dir, two, one, unlock, opts); !errors.Is(err, ErrInUse) {
		t.Fatalf("while in use: %v", err)
	}
}
