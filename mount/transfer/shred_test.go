package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/mount/transfer"
)

// TestShred: originals whose copies are equal are overwritten and removed; what is in use, has other names, or has changed stays.
func TestShred(t *testing.T) {
	r := newRig(t)
	r.scene()
	must(t, os.Chmod(filepath.Join(r.src, "sub"), 0o755))
	outside := filepath.Join(filepath.Dir(r.src), "outside")
	linked := r.write("linked", 5000)
	must(t, os.Link(filepath.Join(r.src, "linked"), outside))
	r.write("open", 5000)
	r.write("late", 5000)
	want := describe(t, r.src)
	open, err := os.Open(filepath.Join(r.src, "open"))
	must(t, err)
	defer open.Close()
	r.cfg.Shred = true
	r.cfg.Progress = func(p transfer.Progress) {
		if p.Phase == transfer.Shredding && p.Files == 0 {
			must(t, os.WriteFile(filepath.Join(r.src, "late"), []byte("new"), 0o644))
		}
	}
	sum := r.run()
	kept := map[string]bool{"linked": true, "open": true, "late": true}
	for _, i := range r.issues {
		if !kept[i.Path] || i.Kind != transfer.Kept {
			t.Errorf("%+v", i)
		}
		delete(kept, i.Path)
	}
	if len(kept) > 0 || sum.Shredded != 6 {
		t.Errorf("not kept: %v; %+v", kept, sum)
	}
	if left := names(t, r.src); len(left) != 3 {
		t.Errorf("left in the source: %q", left)
	}
	if b, err := os.ReadFile(outside); err != nil || !bytes.Equal(b, linked) {
		t.Errorf("the file with a name outside: %v", err)
	}
	if got := describe(t, r.dst); len(got) != len(want) {
		t.Errorf("%d in the target, %d were in the source", len(got), len(want))
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestShredInterrupted: a run that ends while originals are destroyed never leaves one under its name that is not whole, and the next run finishes it.
func TestShredInterrupted(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"a/1", "a/2", "b/3", "c"} {
		r.write(name, 3<<20)
	}
	r.clean()
	want := describe(t, r.dst)
	// As it is after the renames of a, with one half overwritten.
	for _, name := range []string{"1", "2"} {
		must(t, os.Rename(filepath.Join(r.src, "a", name), filepath.Join(r.src, "a", ".kmsfs-shred-0000000000000000000000000000000"+name)))
	}
	must(t, os.WriteFile(filepath.Join(r.src, "a/.kmsfs-shred-00000000000000000000000000000001"), []byte("garbage"), 0o600))
	ctx, cancel := context.WithCancel(bg)
	cfg := r.cfg
	cfg.Shred, cfg.Update = true, true
	cfg.Progress = func(p transfer.Progress) {
		if p.Phase == transfer.Shredding && p.Files == 1 {
			cancel()
		}
	}
	if _, err := transfer.Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.cfg.Shred, r.cfg.Update = true, true
	r.clean()
	if left := names(t, r.src); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	got := describe(t, r.dst)
	for i := range want {
		if i < len(got) && want[i] != got[i] && !strings.Contains(want[i], "mode 40") { // the directories have other times
			t.Errorf("was %s\nis  %s", want[i], got[i])
		}
	}
}
