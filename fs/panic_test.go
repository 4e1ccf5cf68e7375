package fs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

// panicUnder names the directory in which the child of TestPanicEndsTheProcess works.
const panicUnder = "KMSFS_TEST_PANIC_UNDER"

// breaking decides everything, and panics when a name that ends in "boom" is created.
type breaking struct{ fs.Decider }

func (breaking) Active() bool                                                         { return true }
func (breaking) Settings(meta.ZoneID) access.Settings                                 { return access.Settings{} }
func (breaking) Renamed(...*meta.Attr)                                                {}
func (breaking) Closed(access.Requester, meta.ZoneID, meta.Ino, uint64, uint64) error { return nil }

func (breaking) Decide(_ context.Context, _ access.Requester, _ access.Action, at access.Target) (*access.Pass, error) {
	if strings.HasSuffix(string(at.Name), "boom") {
		panic("at the worst moment")
	}
	return nil, nil
}

// TestPanicEndsTheProcess: a request that panics ends the process that serves the mount, at once and with its own exit code, however requests arrive.
// Nobody gets an answer from state that may be half changed.
func TestPanicEndsTheProcess(t *testing.T) {
	fstest.RequireMount(t)
	under := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestServeUntilPanic$", "-test.v")
	cmd.Env = append(os.Environ(), panicUnder+"="+under)
	cmd.WaitDelay = 10 * time.Second // the output belongs to a child of the child as well
	t.Cleanup(func() { _ = unix.Unmount(under+"/mnt", unix.MNT_DETACH) })
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != fs.ExitPanic {
		t.Fatalf("%v, want exit code %d\n%s", err, fs.ExitPanic, out)
	}
	for _, want := range []string{"served until then", "a request panicked", "at the worst moment"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

// TestServeUntilPanic is the child of TestPanicEndsTheProcess.
func TestServeUntilPanic(t *testing.T) {
	under, child := os.LookupEnv(panicUnder)
	if !child {
		t.Skip("runs in a process of its own: TestPanicEndsTheProcess")
	}
	m := fstest.NewMount(t, fstest.Options{Under: under, Config: func(c *fs.Config) {
		c.Access, c.Log = breaking{}, slog.New(slog.NewTextHandler(os.Stdout, nil))
	}})
	if out, err := exec.Command("touch", m.Path("before")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fmt.Println("served until then")
	out, err := exec.Command("touch", m.Path("boom")).CombinedOutput()
	t.Fatalf("it went on: %v: %s", err, out)
}
