package mounttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the directory of the binaries under test of this process, which are built when they are needed for the first time.
type built struct {
	mu   sync.Mutex
	dir  string
	errs map[string]error // by program; nil: it is there
}

var programs built

// Program returns the path of kmsfs.
func Program(t testing.TB) string {
	t.Helper()
	path, err := programs.build("kmsfs", "CGO_ENABLED=0")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// NeedWorker is Need of kmsfs-hsm-worker, which is then beside kmsfs.
func NeedWorker(t testing.TB) {
	t.Helper()
	_, err := programs.build("kmsfs-hsm-worker", "CGO_ENABLED=1")
	Need(t, err == nil, "no HSM worker (is there a C compiler?): %v", err)
}

func (b *built) build(name, cgo string) (path string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir == "" {
		if err := b.makeDir(); err != nil {
			return "", err
		}
	}
	path = filepath.Join(b.dir, name)
	if err, done := b.errs[name]; done {
		return path, err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/kmsfs/kmsfs/cmd/"+name)
	cmd.Env = append(os.Environ(), cgo)
	if text, buildErr := cmd.CombinedOutput(); buildErr != nil {
		err = fmt.Errorf("build %s: %w\n%s", name, buildErr, text)
	}
	b.errs[name] = err
	return path, err
}

// makeDir makes a directory that other users may go through.
func (b *built) makeDir() error {
	dir, err := os.MkdirTemp("", "kmsfs-test-bin-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b.dir, b.errs = dir, map[string]error{}
	return nil
}

func (b *built) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir != "" {
		os.RemoveAll(b.dir)
	}
}
