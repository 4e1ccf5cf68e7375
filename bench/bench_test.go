package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the loopback mount, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "loopback" {
		if err := realMain(context.Background(), os.Args[1:]); err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needFuse(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil && os.Getuid() == 0 {
		_ = f.Close()
		return
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatalf("needs /dev/fuse and root: %v", err)
	}
	t.Skipf("needs /dev/fuse and root: %v", err)
}

func mountsBelow(t *testing.T, dir string) (found []string) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], dir) {
			found = append(found, fields[4])
		}
	}
	return found
}

// TestMeasure compares a loopback mount with the plain directory: cold loads
// mount anew, and nothing is left behind.
func TestMeasure(t *testing.T) {
	needFuse(t)
	dir := t.TempDir()
	cfg, err := parse([]string{"-dir", dir, "-peers", "loopback,native,none", "-scale", "0.01", "-rounds", "2",
		"-run", "^(sequential|append 200|ls)"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := measure(context.Background(), *cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(result.Peers, ","); got != "loopback,native" {
		t.Errorf("peers %s", got)
	}
	if len(result.Loads) != 5 {
		t.Errorf("%d loads", len(result.Loads))
	}
	for _, row := range result.Loads {
		for _, p := range result.Peers {
			if x := row.Runs(p); len(x.Seconds) != 2 || x.Error != "" {
				t.Errorf("%s on %s: %+v", row.Load, p, x)
			}
		}
	}
	checkGone(t, dir)
}

// TestMeasureCancelled: an interrupt ends in unmounted filesystems and an
// empty directory.
func TestMeasureCancelled(t *testing.T) {
	needFuse(t)
	dir := t.TempDir()
	cfg, err := parse([]string{"-dir", dir, "-peers", "loopback", "-scale", "0.01", "-run", "^append"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	progress := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, err := measure(ctx, *cfg, progress); err == nil {
		t.Error("went on")
	}
	checkGone(t, dir)
}

func checkGone(t *testing.T, dir string) {
	t.Helper()
	if left := mountsBelow(t, dir); left != nil {
		t.Errorf("still mounted: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestParse(t *testing.T) {
	for _, bad := range [][]string{{"-rounds", "0"}, {"-scale", "0"}, {"-scale", "-1"}, {"-run", "("}, {"extra"}, {"-peers", ""}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	cfg, err := parse(nil)
	if err != nil || cfg.rounds != 3 || len(cfg.peers) != 3 || cfg.peers[0] != "kmsfs" {
		t.Errorf("defaults: %+v, %v", cfg, err)
	}
}
