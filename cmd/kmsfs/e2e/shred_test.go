package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

type receipt struct {
	Path   string
	Files  int
	Keys   int
	Digest string
	Event  string
}

// TestShred: a directory goes with all its keys, others stay, and there is a receipt that can be proved; what could not be shredded is refused, and nothing of it removed.
func TestShred(t *testing.T) {
	z := newZones(t)
	files := tree(t, z.a+"/gone", rand.New(rand.NewPCG(6, 6)))
	stay := tree(t, z.a+"/kept", rand.New(rand.NewPCG(6, 7)))
	if err := errors.Join(os.Symlink("file1", z.a+"/gone/link"), os.Link(z.a+"/gone/d0/file6", z.a+"/kept/linked")); err != nil {
		t.Fatal(err)
	}
	z.Refused(exitBusy, []string{"2 names", "1 of them elsewhere"}, "shred", "--yes", z.a+"/gone")
	if err := os.Remove(z.a + "/kept/linked"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(z.a + "/gone/d1/file7")
	if err != nil {
		t.Fatal(err)
	}
	z.Refused(exitBusy, []string{"file7", "open"}, "shred", "--yes", z.a+"/gone")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	z.Refused(exitUsage, []string{"not confirmed"}, "shred", z.a+"/gone")
	z.Refused(exitUsage, []string{"root"}, "shred", "--yes", z.Mnt)
	same(t, "refused", files)

	objects := func() (n int) {
		out, err := exec.Command("find", filepath.Join(z.Volume, "objects"), "-type", "f").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(out), "\n")
	}
	before := objects()
	var r receipt
	decode(t, z.Must("shred", "--yes", "--json", z.a+"/gone"), &r)
	if r.Path != "/a/gone" || r.Files != len(files) || r.Keys < len(files) || len(r.Digest) != 64 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Lstat(z.a + "/gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
	if after := objects(); after >= before {
		t.Errorf("%d objects, there were %d", after, before)
	}
	same(t, "beside it", stay)
	event := z.Must("audit", "query", "--json", "--event", "Shred")
	if !strings.Contains(event, r.Digest) || !strings.Contains(event, r.Event) || !strings.Contains(event, "/a/gone") {
		t.Errorf("the receipt is not in the log: %s", event)
	}
	z.Umount() // seals the log
	z.Must("audit", "prove", r.Event, "--keystore", z.Store)
	z.Fsck()
	z.Mount()
	same(t, "after a remount", stay)
	z.Must("shred", "--yes", z.a+"/kept/d0/file3")
	if _, err := os.Lstat(z.a + "/kept/d0/file3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is there still: %v", err)
	}
	z.Umount()
	z.Fsck()
}
