package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/bench/load"
	"github.com/kmsfs/kmsfs/bench/report"
)

// TestMain lets the test binary be the loopback mount and a worker, as the
// program is.
func TestMain(m *testing.M) {
	if (len(os.Args) == 4 && os.Args[1] == "loopback") || (len(os.Args) > 1 && os.Args[1] == load.WorkerCommand) {
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
	cfg, err := parse([]string{"-dir", dir, "-peers", "loopback,native", "-groups", "processes,table", "-scale", "0.01", "-rounds", "2",
		"-run", "^(sequential|append 200|ls|create.* 2)"})
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
	if got := strings.Join(result.Subjects, ","); got != "loopback" {
		t.Errorf("subjects %s", got)
	}
	if len(result.Loads) != 6 {
		t.Errorf("%d loads", len(result.Loads))
	}
	for _, row := range result.Loads {
		for _, p := range result.Peers {
			if x := row.Runs(p); len(x.Values) != 2 || x.Error != "" {
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

// TestMeasureNothing: a gate must not pass because a name was misspelt.
func TestMeasureNothing(t *testing.T) {
	dir := t.TempDir()
	if err := realMain(context.Background(), []string{"-dir", dir, "-peers", "native", "-run", "seqential"}); err == nil || !strings.Contains(err.Error(), "seqential") {
		t.Errorf("%v", err)
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

// TestMeasureKmsfs: keys of directories, calls of the key manager, processor
// time, memory and space come from the commands and processes of kmsfs.
func TestMeasureKmsfs(t *testing.T) {
	needFuse(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "kmsfs")
	build := exec.Command("go", "build", "-o", bin, "github.com/kmsfs/kmsfs/cmd/kmsfs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cfg, err := parse([]string{"-dir", filepath.Join(dir, "work"), "-kmsfs", bin, "-peers", "kmsfs,native", "-scale", "0.03", "-rounds", "1",
		"-groups", "keys,resources,files", "-run", "calls|write|space of|mount|memory|create"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := measure(context.Background(), *cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, least := range map[string]float64{
		"token (HSM) calls, keys cold":        1000 * 3 / 30., // 3 keys, 30 opens
		"key manager calls, keys cold":        1000 * 3 / 30.,
		"space of an empty filesystem":        0.01,
		"10,000 files: mount":                 0.001,
		"10,000 files: memory after the walk": 1,
		"processor time of sequential write":  0.01,
	} {
		if x := result.Row(name); x == nil || x.Runs("kmsfs").Median < least {
			t.Errorf("%s: %+v, want at least %v", name, x, least)
		}
	}
	if x := result.Row("token (HSM) calls, keys warm").Runs("kmsfs"); len(x.Values) != 1 || x.Median != 0 {
		t.Errorf("warm keys: %+v", x)
	}
	if x := result.Row("key manager calls, keys cold").Runs("native"); len(x.Values) != 0 || x.Error != "" {
		t.Errorf("native has keys: %+v", x)
	}
	checkGone(t, filepath.Join(dir, "work"))
}

// TestGate: a report is shown, plotted and compared without measuring.
func TestGate(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, rate := range map[string]float64{"then": 100, "now": 60} {
		r := &report.Report{Scale: 1, Rounds: 1, Subjects: []string{"a"}, Peers: []string{"a", "b"}}
		row := r.AddRow("g", "load", "op/s", false)
		row.Runs("a").Add(rate, nil)
		row.Runs("b").Add(50, nil)
		if err := writeFile(file(name), r.JSON); err != nil {
			t.Fatal(err)
		}
	}
	err := realMain(context.Background(), []string{"-from", file("now"), "-plot", file("plot.svg"), "-gate", file("then")})
	if !errors.Is(err, report.ErrRegression) || !strings.Contains(err.Error(), "load, a / b: ratio 1.20, was 2.00") {
		t.Errorf("%v", err)
	}
	if plot, err := os.ReadFile(file("plot.svg")); err != nil || !strings.Contains(string(plot), "load, a / b: 1.20") {
		t.Errorf("%v, %s", err, plot)
	}
	if err := realMain(context.Background(), []string{"-from", file("now"), "-gate", file("then"), "-tolerance", "0.5"}); err != nil {
		t.Errorf("within the tolerance: %v", err)
	}
	if err := realMain(context.Background(), []string{"-from", file("plot.svg")}); err == nil {
		t.Error("a plot was read as a report")
	}
}

func TestParse(t *testing.T) {
	for _, bad := range [][]string{{"-rounds", "0"}, {"-scale", "0"}, {"-scale", "-1"}, {"-run", "("}, {"extra"}, {"-peers", ""}, {"-peers", "kmsfs,none"},
		{"-peers", "native,native"}, {"-groups", "none"}, {"-tolerance", "1"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	cfg, err := parse(nil)
	if err != nil || cfg.rounds != 3 || len(cfg.peers) != 8 || len(cfg.groups) != 7 || cfg.peers[0] != "kmsfs" {
		t.Errorf("defaults: %+v, %v", cfg, err)
	}
}
