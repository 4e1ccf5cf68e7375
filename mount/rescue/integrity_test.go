package rescue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// violations returns the integrity events of the volume's stream, once they contain all words, or fails the test.
func violations(t *testing.T, r *mounttest.Rig, words ...string) string {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		res := r.Run("audit", "query", "--event", "IntegrityViolation", "--internal", "--json")
		missing := ""
		for _, w := range words {
			if !strings.Contains(res.Out, w) {
				missing = w
			}
		}
		if res.Code == 0 && missing == "" {
			return res.Out
		}
		if time.Now().After(until) {
			t.Fatalf("no event with %q: %s", missing, res)
		}
	}
}

// TestViolationsAreRecorded changes a volume behind its back: each kind of finding, at reads, by fsck, at a refused mount, is an event that names what was
// found, and the log is whole afterwards.
func TestViolationsAreRecorded(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	w := newWriter(t, r.Mnt, 1)
	w.check(os.WriteFile(filepath.Join(r.Mnt, "flipped"), w.bytes(50_000), 0o600))
	r.Umount()
	older := filepath.Join(r.Dir, "older")
	copyTree(t, r.Volume, older)
	objects, err := filepath.Glob(filepath.Join(r.Volume, "objects", "*", "*"))
	if err != nil || len(objects) != 1 {
		t.Fatal(objects, err)
	}
	f, err := os.OpenFile(objects[0], os.O_RDWR, 0)
	w.check(err)
	_, err = f.WriteAt([]byte{1, 2, 3}, 4096)
	w.check(joined(err, f.Close()))

	r.Mount()
	if _, err := os.ReadFile(filepath.Join(r.Mnt, "flipped")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("a changed block: %v", err)
	}
	violations(t, r, "/flipped", `"EIO"`)
	fsck(t, r, 19)
	violations(t, r, "block does not open")
	r.Umount()

	if err := os.RemoveAll(r.Volume); err != nil {
		t.Fatal(err)
	}
	copyTree(t, older, r.Volume)
	r.Refused(18, nil, r.MountArgs()...)
	violations(t, r, "Rollback", "rolled back")
	if err := os.RemoveAll(filepath.Join(r.Volume, "meta")); err != nil {
		t.Fatal(err)
	}
	r.Refused(4, nil, r.MountArgs()...)
	violations(t, r, "Damaged")
	superblock := filepath.Join(r.Volume, "kmsfs.json")
	w.check(os.WriteFile(superblock, []byte("{\"format\": 7}"), 0o600))
	r.Refused(4, nil, r.MountArgs()...)
	violations(t, r, "kmsfs.json is damaged", r.Volume)
	w.check(os.Remove(superblock))
	r.Refused(3, nil, r.MountArgs()...)
	violations(t, r, "no kmsfs.json", "Missing")
	r.Must(secretly(r, "audit", "verify")...)
}
