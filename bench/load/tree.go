package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const treeDir = "tree"

// treeLoads are the loads on a tree of many small files: Go's own source.
func treeLoads() []Load {
	return []Load{
		{Name: "untar source tree, sync", Unit: "s", Lower: true, Tool: "tar", Setup: removeTree, Run: untar},
		{Name: "ls -lR, cold", Unit: "s", Lower: true, Cold: true, Tool: "ls", Setup: ensureTree, Run: listTree},
		{Name: "tar, cold", Unit: "s", Lower: true, Cold: true, Tool: "tar", Setup: ensureTree, Run: packTree},
		{Name: "grep -r, warm", Unit: "s", Lower: true, Tool: "grep", Setup: warmTree, Run: grepTree},
		{Name: "git add and commit", Unit: "s", Lower: true, Tool: "git", Setup: freshTree, Run: gitCommit},
		{Name: "rm -rf, sync", Unit: "s", Lower: true, Tool: "rm", Setup: freshTree, Run: removeAll},
	}
}

// PackTree writes the archive that the tree loads unpack: the source of the
// Go installation, or a part of it at scales below one half.
func PackTree(ctx context.Context, archive string, scale float64) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	parts := []string{"."}
	if scale < 0.5 {
		parts = []string{"encoding", "go", "os"}
	}
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	return command(ctx, src, "tar", append([]string{"-cf", archive, "--owner=0", "--group=0"}, parts...)...)
}

func removeTree(_ context.Context, e *Env) error {
	if err := os.RemoveAll(e.path(treeDir)); err != nil {
		return err
	}
	return e.Host.Sync()
}

func freshTree(ctx context.Context, e *Env) error {
	if err := removeTree(ctx, e); err != nil {
		return err
	}
	return ensureTree(ctx, e)
}

func ensureTree(ctx context.Context, e *Env) error {
	if _, err := os.Stat(e.path(treeDir)); err == nil {
		return nil
	}
	_, err := untar(ctx, e)
	return err
}

func warmTree(ctx context.Context, e *Env) error {
	if err := ensureTree(ctx, e); err != nil {
		return err
	}
	_, err := grepTree(ctx, e)
	return err
}

func untar(ctx context.Context, e *Env) (Result, error) {
	if err := os.Mkdir(e.path(treeDir), 0o755); err != nil {
		return Result{}, err
	}
	elapsed, err := timed(func() error {
		return command(ctx, e.path(treeDir), "tar", "-xf", e.Tree, "--no-same-owner")
	}, e.Host.Sync)
	return seconds(elapsed), err
}

// drain runs a program in the tree and reads its output to the end. (tar
// reads no files if it writes to /dev/null itself.) It fails if there is less
// output than least bytes: then the tree is not there.
func drain(ctx context.Context, e *Env, least int64, name string, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = e.path(treeDir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var n int64
	elapsed, err := timed(func() error {
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		n, err = io.Copy(io.Discard, out)
		return errors.Join(err, cmd.Wait())
	}, nil)
	if err == nil && n < least {
		err = fmt.Errorf("%s wrote %d bytes only", name, n)
	}
	return seconds(elapsed), err
}

func listTree(ctx context.Context, e *Env) (Result, error) {
	return drain(ctx, e, 10_000, "ls", "-lR")
}

// packTree must put out about as much as was unpacked.
func packTree(ctx context.Context, e *Env) (Result, error) {
	info, err := os.Stat(e.Tree)
	if err != nil {
		return Result{}, err
	}
	return drain(ctx, e, info.Size()*9/10, "tar", "-cf", "-", ".")
}

func grepTree(ctx context.Context, e *Env) (Result, error) {
	return drain(ctx, e, 100, "grep", "-r", "func Test", ".")
}

func removeAll(ctx context.Context, e *Env) (Result, error) {
	elapsed, err := timed(func() error {
		return command(ctx, e.Dir, "rm", "-rf", treeDir)
	}, e.Host.Sync)
	return seconds(elapsed), err
}

func gitCommit(ctx context.Context, e *Env) (Result, error) {
	dir := e.path(treeDir)
	elapsed, err := timed(func() error {
		if err := command(ctx, dir, "git", "init", "-q"); err != nil {
			return err
		}
		if err := command(ctx, dir, "git", "add", "-A"); err != nil {
			return err
		}
		return command(ctx, dir, "git", "-c", "user.name=bench", "-c", "user.email=bench@example.org",
			"-c", "gc.auto=0", "commit", "-q", "-m", "all")
	}, nil)
	if err == nil {
		err = command(ctx, dir, "git", "diff", "--quiet", "HEAD") // untimed: what was committed is what is there
	}
	return seconds(elapsed), err
}
