package mounttest

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// Long tells whether the long forms were asked for.
func Long() bool { return os.Getenv("KMSFS_LONG") == "1" }

// Times returns how often to repeat something.
func Times(short, longer int) int {
	if Long() {
		return longer
	}
	return short
}

// Seed returns the seed of a random test, 1 unless KMSFS_TEST_SEED says another, and prints it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	n := uint64(1)
	if text := os.Getenv("KMSFS_TEST_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("KMSFS_TEST_SEED: %v", err)
		}
	}
	t.Logf("KMSFS_TEST_SEED=%d", n)
	return n
}

// Need skips the test for want of something, or fails it where everything must be there (KMSFS_REQUIRE=1).
func Need(t testing.TB, ok bool, format string, args ...any) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatalf("KMSFS_REQUIRE=1: "+format, args...)
	}
	t.Skipf(format, args...)
}

// NeedProgram is Need of programs on the path.
func NeedProgram(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		Need(t, err == nil, "%s is not installed", name)
	}
}

// NeedRoot skips what a user cannot do; there is nothing to install against it.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
