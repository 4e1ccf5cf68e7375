package transfer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
	"github.com/kmsfs/kmsfs/mount/transfer"
)

// TestSwappedForSymlinks: while the work goes on, somebody who may write to both trees replaces directories and files by symbolic links to elsewhere.
// Nothing is read or written there.
func TestSwappedForSymlinks(t *testing.T) {
	r := newRig(t)
	elsewhere := filepath.Join(filepath.Dir(r.src), "elsewhere")
	must(t, os.MkdirAll(filepath.Join(elsewhere, "d"), 0o777))
	must(t, os.WriteFile(filepath.Join(elsewhere, "secret"), []byte("secret"), 0o600))
	r.write("a/first", 10)
	r.write("b/second", 10)
	r.write("c/d/third", 10)
	r.write("secret", 10)
	before := describe(t, elsewhere)
	swap := func(path string, to string) {
		must(t, errors.Join(os.RemoveAll(path), os.Symlink(to, path)))
	}
	must(t, os.Mkdir(filepath.Join(r.dst, "b"), 0o755))
	done := false
	r.cfg.Progress = func(p transfer.Progress) {
		if p.Phase != transfer.Copying || p.Files != 1 || done {
			return
		}
		done = true
		swap(filepath.Join(r.dst, "b"), elsewhere)
		swap(filepath.Join(r.src, "c"), elsewhere)
		swap(filepath.Join(r.src, "secret"), filepath.Join(elsewhere, "secret"))
	}
	r.run()
	if after := describe(t, elsewhere); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("elsewhere was\n%q and is\n%q", before, after)
	}
	if len(r.issues) != 1 || r.issues[0].Path != "b" || r.issues[0].Kind != transfer.Conflict || !done {
		t.Errorf("%+v", r.issues)
	}
	for _, name := range []string{"c", "secret"} { // what they are by then
		if to, err := os.Readlink(filepath.Join(r.dst, name)); err != nil || !strings.HasPrefix(to, elsewhere) {
			t.Errorf("%s: %q, %v", name, to, err)
		}
	}
}

// TestPlantedPartial: what another user has put where an incomplete copy would lie is not written to.
func TestPlantedPartial(t *testing.T) {
	r := newRig(t)
	r.write("file", 1000)
	ctx, cancel := context.WithCancel(bg)
	cfg := r.cfg
	cfg.Progress = func(p transfer.Progress) {
		if p.Phase == transfer.Copying && p.Bytes == 0 {
			cancel()
		}
	}
	if _, err := transfer.Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.write("file2", 1000)
	planted := filepath.Join(r.dst, ".kmsfs-partial-3f0377e4a3b6b6a3c5fda4f3ea5fbe1b")
	if left, _ := filepath.Glob(filepath.Join(r.dst, ".kmsfs-partial-*")); len(left) == 1 {
		planted = left[0]
	}
	keep := filepath.Join(filepath.Dir(r.src), "keep")
	_ = os.Remove(planted)
	must(t, os.WriteFile(keep, []byte("kept"), 0o600))
	must(t, os.Link(keep, planted))
	r.clean()
	r.same("after the run")
	if b, err := os.ReadFile(keep); err != nil || string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestRefusals: what lies in one another, and directories that are left out.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	must(t, os.MkdirAll(filepath.Join(r.src, "in/vault"), 0o755))
	for _, pair := range [][2]string{{r.src, r.src}, {r.src, filepath.Join(r.src, "in")}, {filepath.Join(r.src, "in"), r.src}} {
		cfg := r.cfg
		cfg.Source, cfg.Target = pair[0], pair[1]
		if _, err := transfer.Run(bg, cfg); !errors.Is(err, transfer.ErrOverlap) {
			t.Errorf("%v: %v", pair, err)
		}
	}
	r.write("in/vault/mark", 1)
	r.write("in/vault/other", 1)
	r.write("in/half/mark", 1)
	r.cfg.Marks = []transfer.Mark{{Names: []string{"mark", "other"}, What: "marked"}}
	r.run()
	if len(r.issues) != 1 || r.issues[0].Path != "in/vault" || r.issues[0].Kind != transfer.Skipped {
		t.Errorf("%+v", r.issues)
	}
	if _, err := os.Stat(filepath.Join(r.dst, "in/half/mark")); err != nil {
		t.Error(err)
	}
	must(t, os.Mkdir(filepath.Join(r.src, "in/vault/deep"), 0o755))
	for path, want := range map[string]string{"in/vault/deep": "marked", "in/vault": "marked", "in": "", "in/half": ""} {
		if what, err := transfer.Inside(filepath.Join(r.src, path), r.cfg.Marks); err != nil || what != want {
			t.Errorf("%s: %q, %v", path, what, err)
		}
	}
	no := errors.New("no")
	r.cfg.Ready = func(files, bytes uint64) error {
		if files != 0 || bytes != 0 { // all is there
			t.Errorf("%d files, %d bytes are to be copied", files, bytes)
		}
		return no
	}
	if _, err := transfer.Run(bg, r.cfg); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
}

// TestMounted: what is mounted in the source is left out and named.
func TestMounted(t *testing.T) {
	mounttest.NeedRoot(t)
	r := newRig(t)
	r.write("here/file", 10)
	must(t, os.Mkdir(filepath.Join(r.src, "there"), 0o755))
	err := unix.Mount("tmpfs", filepath.Join(r.src, "there"), "tmpfs", 0, "size=64k")
	mounttest.Need(t, err == nil, "mount: %v", err)
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(r.src, "there"), unix.MNT_DETACH)) })
	r.run()
	if len(r.issues) != 1 || r.issues[0].Path != "there" || r.issues[0].Kind != transfer.Skipped {
		t.Errorf("%+v", r.issues)
	}
}
