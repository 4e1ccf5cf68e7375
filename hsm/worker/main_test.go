package worker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/worker"
)

// TestMain removes the worker program that binary built.
func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		orphanParent()
	}
	code := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

var (
	buildDir string
	build    = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "kmsfs-worker")
		if err != nil {
			return "", err
		}
		buildDir = dir
		bin := filepath.Join(dir, "kmsfs-hsm-worker")
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/kmsfs/kmsfs/cmd/kmsfs-hsm-worker")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out), err
		}
		return bin, nil
	})
)

// binary is the real worker program.
func binary(t testing.TB) string {
	t.Helper()
	bin, err := build()
	if err == nil {
		return bin
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatalf("build the worker: %v: %s", err, bin)
	}
	t.Skipf("the worker cannot be built (apt-get install gcc libc6-dev): %v: %s", err, bin)
	return ""
}

func config(t testing.TB, s *hsmtest.SoftHSM) worker.Config {
	return worker.Config{Binary: binary(t), Module: s.Module, TokenLabel: s.Label, PIN: s.Secret(t), Initialize: true,
		CallTimeout: 30 * time.Second} // the machine may be busy with other tests
}

func start(t testing.TB, cfg worker.Config) *worker.Client {
	t.Helper()
	c, err := worker.Start(hsmtest.Context(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSuite(t *testing.T) {
	hsmtest.Run(t, func(t *testing.T) hsm.Token { return start(t, config(t, hsmtest.NewSoftHSM(t))) })
}

func BenchmarkDecrypt(b *testing.B) { hsmtest.Bench(b, start(b, config(b, hsmtest.NewSoftHSM(b)))) }
