package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is the directory with the binaries under test; worker says whether kmsfs-hsm-worker is among them.
var (
	bin    string
	worker bool
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(writerEnv); spec != "" { // a writer of TestKill
		os.Exit(runWriter(spec))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kmsfs-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = dir
	if err := build("../../..", dir, "./cmd/kmsfs", "CGO_ENABLED=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := build("../../..", dir, "./cmd/kmsfs-hsm-worker", "CGO_ENABLED=1"); err != nil {
		fmt.Fprintln(os.Stderr, "no worker, so no test with a PKCS#11 token:", err)
	} else {
		worker = true
	}
	return m.Run()
}

func build(root, out, pkg, cgo string) error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(out, filepath.Base(pkg)), pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func long() bool { return os.Getenv("KMSFS_LONG") == "1" }

// need skips the test for want of something, or fails it where everything must be there.
func need(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatalf("KMSFS_REQUIRE=1: "+format, args...)
	}
	t.Skipf(format, args...)
}

func needProgram(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		need(t, err == nil, "%s is not installed", name)
	}
}

// needRoot skips what a user cannot do; there is nothing to install against it.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
