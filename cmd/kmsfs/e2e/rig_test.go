package e2e

import (
	"os"
	"os/exec"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// rig is a key store, a volume and a mount point of one test.
type rig struct{ *mounttest.Rig }

func newRig(t *testing.T) *rig { return &rig{mounttest.NewRig(t, mounttest.Options{})} }

// sh runs a shell script in a directory and returns what it printed; it must succeed.
func sh(t testing.TB, dir, script string, env ...string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, mounttest.Tail(out, 6000))
	}
	return string(out)
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
