package load

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoads runs every load at a small scale on a plain directory, twice, as
// rounds do.
func TestLoads(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree.tar")
	if err := PackTree(ctx, tree, 0.01); err != nil {
		t.Fatal(err)
	}
	synced := 0
	e := &Env{Dir: filepath.Join(dir, "mnt"), Tree: tree, Scale: 0.01, Sync: func() error { synced++; return nil }}
	if err := os.Mkdir(e.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		e.Round = round
		for _, l := range All() {
			runLoad(ctx, t, l, e)
		}
	}
	if synced == 0 {
		t.Error("nothing was synced")
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
	if r.Elapsed <= 0 || (l.Unit == "s") != (r.Work == 0) {
		t.Errorf("%s: %v for %v %s", l.Name, r.Elapsed, r.Work, l.Unit)
	}
}

// TestWrongDataIsSeen: a filesystem that returns another page, or too little,
// fails the load instead of being fast.
func TestWrongDataIsSeen(t *testing.T) {
	ctx := context.Background()
	e := &Env{Dir: t.TempDir(), Scale: 0.002, Sync: func() error { return nil }}
	if _, err := writeBig(ctx, e); err != nil {
		t.Fatal(err)
	}
	if _, err := readBig(ctx, e); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(e.path(bigFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, page), 5*page); err != nil {
		t.Fatal(err)
	}
	if _, err := readBig(ctx, e); err == nil || !strings.Contains(err.Error(), "wrong data") {
		t.Errorf("a page of zeros: %v", err)
	}
	if err := f.Truncate(4 * page); err != nil {
		t.Fatal(err)
	}
	if _, err := readBig(ctx, e); err == nil {
		t.Error("a short file was accepted")
	}
}
