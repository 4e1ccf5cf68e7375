package posix_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// stressors are those of stress-ng (Debian 12's) that work on files.
var stressors = strings.Fields(`access chmod chown copy-file dentry dir dirdeep fallocate fcntl flock fpunch getdent hdd link lockofd lockf mmap open
	rename seek sendfile symlink sync-file utime xattr`)

// TestStressNG lets stress-ng's own checks loose on a mount: all stressors at once, or in the long form one after another.
func TestStressNG(t *testing.T) {
	tool := fstest.RequireTool(t, "stress-ng")
	m := fstest.NewMount(t, fstest.Options{})
	if fstest.Long() {
		for _, s := range stressors {
			stressNG(t, tool, m.Dir, "10s", "--"+s, "2")
		}
	} else {
		var all []string
		for _, s := range stressors {
			all = append(all, "--"+s, "1")
		}
		stressNG(t, tool, m.Dir, "3s", all...)
	}
	m.Check()
}

func stressNG(t *testing.T, tool, base, long string, what ...string) {
	t.Helper()
	dir, err := os.MkdirTemp(base, "stress-ng-")
	if err != nil {
		t.Fatal(err)
	}
	args := append(what, "--timeout", long, "--temp-path", dir, "--verify", "--oomable")
	cmd := exec.Command(tool, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("stress-ng %s: %v\n%s", strings.Join(what, " "), err, out)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}
