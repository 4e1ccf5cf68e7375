package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// aside is the rig with another directory in place of its volume.
func (r *rig) aside(volume string) *rig {
	other := *r.Rig
	other.Volume = volume
	return &rig{&other}
}

// TestShredAndOlderBackup says what brings a shredded file back. A whole backup from before does, for whoever may accept it, as long as the version of the CMK that its zone keys were wrapped by
// is there; other keys for the zones change nothing about that. Once that version is destroyed nothing does, the present volume goes on, and a backup from afterwards is good.
func TestShredAndOlderBackup(t *testing.T) {
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	gone, kept := r.Mnt+"/d/gone", r.Mnt+"/kept"
	if err := os.Mkdir(r.Mnt+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, gone, []byte("secret"))
	write(t, kept, []byte("kept"))
	before, after := filepath.Join(r.Dir, "before"), filepath.Join(r.Dir, "after")
	r.Must("backup", r.Volume, before)
	r.Must("shred", "--yes", r.Mnt+"/d")

	old := r.aside(filepath.Join(r.Dir, "old"))
	restored := func() []string { // and how it is mounted
		t.Helper()
		r.Umount()
		if err := os.RemoveAll(old.Volume); err != nil {
			t.Fatal(err)
		}
		old.Must("restore", before, old.Volume)
		return append([]string{"mount", old.Volume, old.Mnt}, old.Secret...)
	}
	back := func(when string) {
		t.Helper()
		old.Refused(exitRollback, nil, restored()...)
		old.Mount("--accept-restore")
		if got := string(read(t, gone)); got != "secret" {
			t.Errorf("%s an older backup that is accepted has %q", when, got)
		}
		old.Umount()
		r.Mount("--accept-restore") // the backup is what the key store takes for the newest
	}
	back("after a shred")

	r.Refused(exitUsage, []string{"newest"}, "key", "destroy-version", "alias/vault", "1")
	r.Must("key", "rotate", "alias/vault")
	r.Refused(exitBusy, []string{r.Volume, "its own key", "keys of 1 directories"}, "key", "destroy-version", "--yes", "alias/vault", "1")
	r.Must("rewrap", "--deep", "--wait", r.Volume)
	back("after a deep rewrap")

	r.Umount()
	r.Refused(exitBusy, []string{"cannot be asked", "--lose"}, "key", "destroy-version", "--yes", "alias/vault", "1")
	r.Mount()
	r.Refused(exitUsage, []string{"has nothing under it", "backups", "not confirmed"}, "key", "destroy-version", "alias/vault", "1")
	r.Refused(exitUsage, []string{"no volume nobody"}, "key", "destroy-version", "--yes", "--lose", "nobody", "alias/vault", "1")
	r.Must("key", "destroy-version", "--yes", "alias/vault", "1")
	r.Refused(exitKeyRefused, []string{"was destroyed on"}, "key", "destroy-version", "--yes", "alias/vault", "1")
	r.Must("backup", r.Volume, after)

	old.Refused(exitRollback, nil, restored()...)
	old.Mount("--accept-restore") // the key store's kmsfs.json opens the volume's key, and sizes and times are under that
	if b, err := os.ReadFile(gone); !errors.Is(err, syscall.EKEYREVOKED) {
		t.Errorf("older metadata without its version of the CMK: %q, %v", b, err)
	}
	if names, err := os.ReadDir(r.Mnt); !errors.Is(err, syscall.EKEYREVOKED) {
		t.Errorf("names in older metadata without its version of the CMK: %v, %v", names, err)
	}
	old.Umount()

	r.Mount("--accept-restore")
	if got := string(read(t, kept)); got != "kept" {
		t.Errorf("the present volume: %q", got)
	}
	r.Umount()
	r.Fsck()
	if err := os.RemoveAll(old.Volume); err != nil {
		t.Fatal(err)
	}
	old.Must("restore", after, old.Volume)
	old.Mount("--accept-restore")
	if got := string(read(t, kept)); got != "kept" {
		t.Errorf("a backup from afterwards: %q", got)
	}
	old.Umount()
}
