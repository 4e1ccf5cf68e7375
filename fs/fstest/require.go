package fstest

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
)

// required says whether what a test needs must be there: then its absence is a failure and not a skip.
func required() bool { return os.Getenv("KMSFS_REQUIRE") == "1" }

// RequireMount skips the test where this process cannot mount FUSE filesystems, or fails it if KMSFS_REQUIRE is 1.
func RequireMount(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 { // the helper opens the device
		RequireTool(t, "fusermount3")
		return
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		skip(t, "needs /dev/fuse: "+err.Error())
	}
	f.Close()
}

// RequireTool returns the path of a program, or skips or fails as RequireMount does.
func RequireTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		skip(t, "needs "+name+": "+err.Error())
	}
	return path
}

// Long says whether tests may take their long form.
func Long() bool { return os.Getenv("KMSFS_LONG") == "1" }

// Seed returns the seed of a random test: the same each time, another each time in the long form.
func Seed() uint64 {
	if Long() {
		return rand.Uint64()
	}
	return 20261125
}

func skip(t testing.TB, why string) {
	t.Helper()
	if required() {
		t.Fatalf("%s (and KMSFS_REQUIRE is 1)", why)
	}
	t.Skip(why)
}
