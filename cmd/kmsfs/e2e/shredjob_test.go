package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// shredJob submits a shredding.
func (r *rig) shredJob(path string) (j jobStatus) {
	r.T.Helper()
	decode(r.T, r.Must("shred", "--yes", "--background", "--json", path), &j)
	return j
}

// TestShredJob: a shredding waits its turn, can be cancelled before it, says what keeps it from its end, and comes to it after a daemon was killed in it.
func TestShredJob(t *testing.T) {
	z := newZones(t)
	files := tree(t, z.a+"/gone", rand.New(rand.NewPCG(6, 8)))
	stay := tree(t, z.a+"/kept", rand.New(rand.NewPCG(6, 9)))
	slow := z.reencrypt("--rate", "1K", z.a+"/kept") // what is in front of it
	first := z.shredJob(z.a + "/gone")
	if j := z.job(first.ID); j.State != "waiting" || j.Root != "/a/gone" || j.TotalFiles != len(files) {
		t.Errorf("behind another job: %+v", j)
	}
	z.Must("jobs", "cancel", z.Mnt, fmt.Sprint(first.ID))
	same(t, "cancelled", files)

	second := z.shredJob(z.a + "/gone")
	held, err := os.Open(z.a + "/gone/d1/file7")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	linked := z.a + "/kept/linked"
	if err := os.Link(z.a+"/gone/d0/file3", linked); err != nil {
		t.Fatal(err)
	}
	z.Must("jobs", "cancel", z.Mnt, fmt.Sprint(slow.ID))
	problem := func(word string) {
		t.Helper()
		z.Eventually("the job says "+word, func() error {
			if j := z.job(second.ID); j.State == "done" || !strings.Contains(j.Problem, word) {
				return fmt.Errorf("%+v", j)
			}
			return nil
		})
	}
	z.Eventually("the job waits", func() error {
		if j := z.job(second.ID); j.State == "done" || j.Problem == "" {
			return fmt.Errorf("%+v", j)
		}
		return nil
	})
	if _, err := os.Lstat(z.a + "/gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what it is about is there still: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	problem("another name, /a/kept/linked")

	z.Kill(z.Daemon())
	if err := unix.Unmount(z.Mnt, unix.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		t.Fatal(err)
	}
	z.Mount()
	problem("another name, /a/kept/linked") // it is known still
	if err := os.Remove(linked); err != nil {
		t.Fatal(err)
	}
	if j := z.wait(second.ID); j.State != "done" || j.Failed != 0 {
		t.Errorf("%+v", j)
	}
	var r receipt
	var all []struct {
		ID    uint64
		Shred *receipt
	}
	decode(t, z.Must("jobs", "--json", z.Mnt), &all)
	for _, j := range all {
		if j.ID == second.ID {
			r = *j.Shred
		}
	}
	if r.Path != "/a/gone" || r.Files != len(files) || len(r.Digest) != 64 || !strings.Contains(z.Must("audit", "query", "--json", "--event", "Shred"), r.Event) {
		t.Errorf("receipt %+v", r)
	}
	same(t, "beside it", stay)
	z.Umount()
	z.Fsck()
}
