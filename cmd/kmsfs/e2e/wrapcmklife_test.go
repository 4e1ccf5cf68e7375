package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWrapCMKLife takes a directory with wrap: cmk, whose keys are in an HSM, through what happens to volumes: backup and restore, a rebuild of the metadata, fsck, a deep rewrap, moves in and out, re-encryption and
// the destruction of the version that wrapped its files, shredding. Every file is read after each, with its key from the HSM.
func TestWrapCMKLife(t *testing.T) {
	r, _ := newHSMRig(t)
	w := newWrapCMK(t, r)
	files := tree(t, w.dir+"/tree", rand.New(rand.NewPCG(39, 1)))
	cold := func(when string) { // no key is in memory
		t.Helper()
		w.Remount()
		same(t, when, files)
	}
	cold("at first")

	saved, back := filepath.Join(w.Dir, "saved"), w.aside(filepath.Join(w.Dir, "back"))
	w.Umount()
	w.Must(append([]string{"backup", w.Volume, saved}, w.Secret...)...)
	w.Fsck()
	back.Must("restore", saved, back.Volume)
	back.Fsck()
	back.Mount()
	same(t, "restored", files)
	back.Umount()
	if err := os.RemoveAll(back.Volume); err != nil {
		t.Fatal(err)
	}

	if err := os.RemoveAll(filepath.Join(w.Volume, "meta")); err != nil {
		t.Fatal(err)
	}
	w.Must(append([]string{"rebuild", w.Volume}, w.Secret...)...)
	w.Mount()
	same(t, "after a rebuild", files)

	w.Must("rewrap", w.Volume, "--deep", "--wait")
	cold("after a deep rewrap")

	in, out := w.Mnt+"/plain", w.dir+"/tree/d1/file1"
	write(t, in, []byte("moved"))
	if err := os.Rename(in, w.dir+"/moved"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("rename into the directory: %v", err)
	}
	if err := os.Rename(out, w.Mnt+"/out"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("rename out of the directory: %v", err)
	}
	sh(t, w.Mnt, `mv plain d/moved && mv d/tree/d1/file1 out`) // which copies
	files[w.dir+"/moved"], files[w.Mnt+"/out"] = []byte("moved"), files[out]
	delete(files, out)
	cold("after moves")

	w.Must("key", "rotate", "alias/guarded")
	w.Must("rewrap", w.dir)
	w.Refused(exitBusy, []string{"keys of files", "reencrypt"}, "key", "destroy-version", "--yes", "alias/guarded", "1")
	w.Must("reencrypt", w.dir, "--wait")
	w.Must("census", w.dir, "--newest")
	w.Must("key", "destroy-version", "--yes", "alias/guarded", "1")
	cold("without the first version")

	w.Must("shred", "--yes", w.dir+"/tree/d0")
	for path := range files {
		if strings.HasPrefix(path, w.dir+"/tree/d0/") {
			delete(files, path)
		}
	}
	cold("after a shred")
	w.Umount()
	w.Fsck()
}
