package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be a worker, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == WorkerCommand {
		if err := Worker(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// directoryHost is a plain directory that claims to have keys and a process.
type directoryHost struct {
	synced, mounted, keys int
	opens                 int // of files with keys, as calls
}

func (h *directoryHost) Sync() error { h.synced++; return nil }

func (h *directoryHost) Remount(context.Context) (time.Duration, error) {
	h.mounted++
	return time.Millisecond, nil
}

func (h *directoryHost) CPU(context.Context) (time.Duration, error) {
	h.opens++
	return time.Duration(h.opens) * time.Second, nil
}

func (h *directoryHost) Memory(context.Context) (int64, error) { return 5e6, nil }
func (h *directoryHost) Stored() (int64, error)                { return 1e6, nil }

func (h *directoryHost) OwnKey(context.Context, string) error { h.keys++; return nil }

func (h *directoryHost) KeyCalls(_ context.Context, since time.Time) (int, int, error) {
	if time.Since(since) < 0 {
		return 0, 0, errors.New("since lies in the future")
	}
	return 2 * h.keys, h.keys, nil
}

// TestLoads runs every load of every group at a small scale on a plain
// directory, twice, as rounds do.
func TestLoads(t *testing.T) {
	ctx := context.Background()
	tree := filepath.Join(t.TempDir(), "tree.tar")
	if err := PackTree(ctx, tree, 0.01); err != nil {
		t.Fatal(err)
	}
	for _, g := range Groups() {
		scale := 0.01
		if !g.Default {
			scale = 0.0001
		}
		t.Run(g.Name, func(t *testing.T) {
			h := &directoryHost{}
			e := &Env{Dir: t.TempDir(), Tree: tree, Scale: scale, Host: h}
			for e.Round = 0; e.Round < 2; e.Round++ {
				for _, l := range g.Loads {
					runLoad(ctx, t, l, e)
				}
			}
			if g.Name != "keys" && h.synced == 0 {
				t.Error("nothing was synced")
			}
			if g.Name == "keys" && h.keys != 1 { // 100 at this scale
				t.Errorf("%d keys", h.keys)
			}
		})
	}
}

func runLoad(ctx context.Context, t *testing.T, l Load, e *Env) {
	t.Helper()
	if l.Tool != "" {
		if _, err := exec.LookPath(l.Tool); err != nil {
			t.Logf("%s left out: %v", l.Name, err)
			return
		}
	}
	if l.Setup != nil {
		if err := l.Setup(ctx, e); err != nil {
			t.Fatalf("prepare %s: %v", l.Name, err)
		}
	}
	r, err := l.Run(ctx, e)
	if err != nil {
		t.Fatalf("%s: %v", l.Name, err)
	}
	if r.Value <= 0 {
		t.Errorf("%s: %v %s", l.Name, r.Value, l.Unit)
	}
	if rate := strings.HasSuffix(l.Unit, "/s"); rate == l.Lower {
		t.Errorf("%s: lower is better: %v, for %s", l.Name, l.Lower, l.Unit)
	}
}

// TestFigures: the figures that are no rates, of known amounts.
func TestFigures(t *testing.T) {
	ctx := context.Background()
	h := &directoryHost{}
	e := &Env{Dir: t.TempDir(), Scale: 0.01, Host: h}
	want := map[string]float64{
		"key manager calls, keys cold":            200, // 2 for 10 opens
		"token (HSM) calls, keys warm":            100,
		"processor time of sequential write":      1024 / 10., // 1 s for 10 MiB
		"10,000 files: mount":                     0.001,
		"10,000 files: memory after the walk":     5,
		"file of 1 GiB: space per byte":           1e6 / (10 << 20),
		"space of an empty filesystem":            1,
		"processor time of sequential read, cold": 1024 / 10.,
	}
	for _, g := range Groups() {
		for _, l := range g.Loads {
			value, known := want[l.Name]
			if !known {
				continue
			}
			delete(want, l.Name)
			if l.Setup != nil {
				if err := l.Setup(ctx, e); err != nil {
					t.Fatalf("prepare %s: %v", l.Name, err)
				}
			}
			if r, err := l.Run(ctx, e); err != nil || r.Value != value {
				t.Errorf("%s: %v, %v; want %v", l.Name, r.Value, err, value)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("no such loads: %v", want)
	}
}

// TestWrongDataIsSeen: a filesystem that returns another page, or too little,
// fails the load instead of being fast.
func TestWrongDataIsSeen(t *testing.T) {
	ctx := context.Background()
	e, f := &Env{Dir: t.TempDir(), Scale: 0.002, Host: &directoryHost{}}, big(512)
	if _, err := f.write(ctx, e); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(ctx, e); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(f.path(e), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(make([]byte, page), 5*page); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(ctx, e); err == nil || !strings.Contains(err.Error(), "wrong data") {
		t.Errorf("a page of zeros: %v", err)
	}
	if err := file.Truncate(4 * page); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(ctx, e); err == nil {
		t.Error("a short file was accepted")
	}
}

// TestWorkerErrors: a worker that cannot work says why, and the load with it.
func TestWorkerErrors(t *testing.T) {
	ctx := context.Background()
	e := &Env{Dir: t.TempDir(), Scale: 0.001, Host: &directoryHost{}}
	p := processes(2)
	if err := p.empty(ctx, e); err != nil {
		t.Fatal(err)
	}
	if _, err := p.run(opStat)(ctx, e); err == nil || !strings.Contains(err.Error(), "worker 1") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("files that are not there: %v", err)
	}
	if _, err := p.run("sing")(ctx, e); err == nil {
		t.Error("an unknown operation was done")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.run(opCreate)(cancelled, e); err == nil {
		t.Error("ran without a context")
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{7: "7", 1000: "1,000", 12_034: "12,034", 10_000_000: "10,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}
