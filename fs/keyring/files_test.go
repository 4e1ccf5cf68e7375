package keyring

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// newFileBench is a bench whose zone is one with wrap: cmk.
func newFileBench(t *testing.T, change func(*Config)) (*bench, meta.FileKeys) {
	t.Helper()
	b := newBench(t, change)
	b.zone.Flags |= meta.ZoneCMK
	files := b.get(t).Files
	if files == nil {
		t.Fatal("the zone's keys have none for files")
	}
	b.keys.set(func() { b.keys.calls = 0 })
	return b, files
}

// TestFileKeys: each call is one of the key manager, with the context of the place; a blob opens in its place only.
func TestFileKeys(t *testing.T) {
	b, files := newFileBench(t, nil)
	at := blockcrypt.Place{Volume: b.cfg.Volume, Zone: 1, Parent: 2, Name: [16]byte{3}, Inode: 4, Epoch: 5}
	key, blob, err := files.Make(ctx, at)
	must(t, err)
	got, err := files.Open(ctx, at, blob)
	must(t, err)
	if *got != *key {
		t.Error("another key")
	}
	to := at
	to.Parent, to.Name = 6, [16]byte{7}
	moved, err := files.Move(ctx, at, to, blob)
	must(t, err)
	if n := b.keys.count(); n != 2 {
		t.Errorf("%d calls of Decrypt and ReEncrypt, want 2", n)
	}
	if got, err = files.Open(ctx, to, moved); err != nil || *got != *key {
		t.Errorf("in the other place: %v", err)
	}
	for name, elsewhere := range map[string]blockcrypt.Place{
		"directory": {Volume: at.Volume, Zone: 1, Parent: 9, Name: at.Name, Inode: 4, Epoch: 5},
		"name":      {Volume: at.Volume, Zone: 1, Parent: 2, Inode: 4, Epoch: 5},
		"inode":     {Volume: at.Volume, Zone: 1, Parent: 2, Name: at.Name, Inode: 9, Epoch: 5},
		"epoch":     {Volume: at.Volume, Zone: 1, Parent: 2, Name: at.Name, Inode: 4, Epoch: 9},
		"zone":      {Volume: at.Volume, Zone: 9, Parent: 2, Name: at.Name, Inode: 4, Epoch: 5},
		"volume":    {Zone: 1, Parent: 2, Name: at.Name, Inode: 4, Epoch: 5},
	} {
		if _, err := files.Open(ctx, elsewhere, blob); !errors.Is(err, meta.ErrAuth) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for _, raw := range b.keys.given {
		if string(raw) != string(make([]byte, len(raw))) {
			t.Error("a raw key was not wiped")
		}
	}
}

// TestFileKeysRefused: a refusal of the caller is not one of the key; what the key manager cannot do now is worth another try.
func TestFileKeysRefused(t *testing.T) {
	b, files := newFileBench(t, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	at := blockcrypt.Place{Volume: b.cfg.Volume, Inode: 4}
	_, blob, err := files.Make(ctx, at)
	must(t, err)
	try := func(what string, fail, want, not error) {
		t.Helper()
		b.keys.set(func() { b.keys.fail = fail })
		if _, err := files.Open(ctx, at, blob); !errors.Is(err, want) || not != nil && errors.Is(err, not) {
			t.Errorf("%s: %v", what, err)
		}
	}
	try("denied", keymgr.ErrAccessDenied, keymgr.ErrAccessDenied, meta.ErrKeyRevoked)
	try("disabled", keymgr.ErrDisabled, meta.ErrKeyRevoked, nil)
	try("away", keymgr.ErrKeyUnavailable, meta.ErrKeyUnavailable, nil)
	gate := make(chan struct{})
	defer close(gate)
	b.keys.set(func() { b.keys.fail, b.keys.gate = nil, gate })
	if _, err := files.Open(ctx, at, blob); !errors.Is(err, meta.ErrKeyUnavailable) {
		t.Errorf("no answer: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := files.Open(canceled, at, blob); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
