package fs_test

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// knownFailures are those of go-fuse's tests that fail on ext4 as well, and that its own runner leaves out.
var knownFailures = map[string]string{
	"FcntlFlockLocksFile": "expects two POSIX locks of one process to conflict",
	"OpenSymlinkRace":     "is about a loopback filesystem's own paths",
}

func TestPosixtest(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	if len(posixtest.All) < 30 {
		t.Fatalf("only %d tests", len(posixtest.All))
	}
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why := knownFailures[name]; why != "" {
				t.Skip(why)
			}
			dir := m.Path(name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			test(t, dir)
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	}
}
