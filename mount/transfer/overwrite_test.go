package transfer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDestroy looks at the pages of a file while it is destroyed, through a mapping; by the whole way a file that is mapped is kept.
func TestDestroy(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"src", "dst"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(base, "src/file")
	want := bytes.Repeat([]byte("plaintext "), 300_000)
	if err := os.WriteFile(path, want, 0o400); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	var issues []Issue
	cfg := Config{
		Source: filepath.Join(base, "src"), Target: filepath.Join(base, "dst"), Shred: true,
		Sync: func(context.Context) error { return nil }, Issue: func(i Issue) error { issues = append(issues, i); return nil },
	}
	if _, err := Run(context.Background(), cfg); err != nil || len(issues) != 1 || issues[0].Kind != Kept || !bytes.Equal(m, want) {
		t.Fatalf("of a mapped file: %+v, %v", issues, err)
	}
	in, err := openRoot(cfg.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	s := &shredder{&run{a: make([]byte, chunk)}}
	if err := s.destroy(in, "file"); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(m, []byte("plaintext")) {
		t.Error("what the file held is still there")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}
