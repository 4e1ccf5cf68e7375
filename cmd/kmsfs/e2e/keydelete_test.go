package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyDeleteShows: before a key goes its owner reads what goes with it, and what a rotation leaves behind stays readable.
func TestKeyDeleteShows(t *testing.T) {
	z := newZones(t)
	files := map[string][]byte{filepath.Join(z.a, "one"): []byte("1"), filepath.Join(z.a, "two"): []byte("2"), filepath.Join(z.b, "three"): []byte("3")}
	for path, b := range files {
		write(t, path, b)
	}
	for range 3 { // old versions stay as long as anything is wrapped by them: nothing destroys one
		z.Must("key", "rotate", "alias/a")
	}
	z.Remount()
	same(t, "under an old version of the key", files)
	z.Refused(exitUsage, []string{"directory /a of", "2 files", "not confirmed"}, "key", "delete", "alias/a")
	z.Refused(exitUsage, []string{"cannot be opened without", "not confirmed"}, "key", "delete", "alias/vault")
	z.Must("rewrap", "--to", "alias/b", z.a)
	res := z.Refused(exitUsage, []string{"not confirmed"}, "key", "delete", "alias/a")
	if strings.Contains(res.Err, "directory") || strings.Contains(res.Err, "volume") {
		t.Errorf("nothing is under the key, and yet: %s", res.Err)
	}
	z.Refused(exitUsage, []string{"directory /a of", "directory /b of", "1 files"}, "key", "delete", "alias/b")
	z.Umount()
	z.Refused(exitUsage, []string{"is not mounted"}, "key", "delete", "alias/b")
	z.Must("key", "delete", "--yes", "alias/a") // nothing is under it any more
	z.Mount()
	same(t, "after the deletion of a key that nothing is under", files)
}
