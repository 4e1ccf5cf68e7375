package keymgr

import (
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// TestLastBackup: what counts as a change since the last backup, over restarts; ends of volumes and uses of keys do not, and backing keys are told apart.
func TestLastBackup(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	last := func() LastBackup {
		t.Helper()
		b, err := f.LastBackup(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	backup := func() (generation uint64) {
		t.Helper()
		if err := f.Backup(ctx, me, func(g uint64) error { generation = g; return nil }, func(_, _ []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := f.NoteBackup(ctx, generation); err != nil {
			t.Fatal(err)
		}
		return generation
	}
	key := f.newKey(t, "").KeyID
	if b := last(); b != (LastBackup{}) {
		t.Errorf("before any: %+v", b)
	}
	first := backup()
	want := LastBackup{Time: f.now().UTC(), Generation: first}
	if b := last(); b != want {
		t.Errorf("just made: %+v, want %+v", b, want)
	}
	if _, err := f.GenerateDataKey(ctx, me, GenerateDataKeyInput{KeyID: key, Bytes: 32}); err != nil {
		t.Fatal(err)
	}
	if err := f.AdvanceAnchor(ctx, blockcrypt.VolumeID{1}, Anchor{Generation: 1, Clean: true}); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	if b := last(); b != want {
		t.Errorf("a key was used, a volume ended: %+v, want %+v", b, want)
	}
	if err := f.DisableKey(ctx, me, key); err != nil {
		t.Fatal(err)
	}
	if b := last(); !b.Changed || b.Keys {
		t.Errorf("a key was disabled: %+v", b)
	}
	if err := f.EnableKey(ctx, me, key); err != nil {
		t.Fatal(err)
	}
	if _, err := f.RotateKeyOnDemand(ctx, me, key); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	if b := last(); !b.Changed || !b.Keys || b.Generation != first {
		t.Errorf("a key was rotated: %+v", b)
	}
	f.clock.advance(1, 1)
	second := backup()
	want = LastBackup{Time: f.now().UTC(), Generation: second}
	if err := f.NoteBackup(ctx, first); err != nil { // one that began before, and ended later
		t.Fatal(err)
	}
	if b := last(); b != want || second <= first {
		t.Errorf("the next one: %+v, want %+v", b, want)
	}
}
