package fs_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

func TestConcurrentAppendersLoseNothing(t *testing.T) {
	const writers, lines = 8, 500
	m := fstest.NewMount(t, fstest.Options{})
	path := m.Path("log")
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := range lines {
				if _, err := fmt.Fprintf(f, "writer %d line %d %s\n", w, i, strings.Repeat("x", i%200)); err != nil {
					t.Error(err)
					return
				}
				if i%100 == 0 {
					if err := f.Sync(); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	wg.Wait()
	checkLines(t, path, writers, lines)
	m.Remount()
	checkLines(t, path, writers, lines)
}

// checkLines checks that every line is there once, whole, and in its writer's order.
func checkLines(t *testing.T, path string, writers, lines int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next := make([]int, writers)
	for in := bufio.NewScanner(f); in.Scan(); {
		var w, i int
		var rest string
		if n, _ := fmt.Sscanf(in.Text(), "writer %d line %d %s", &w, &i, &rest); n < 2 || len(rest) != i%200 || w >= writers || next[w] != i {
			t.Fatalf("torn, lost or doubled line: %q", in.Text())
		}
		next[w]++
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("writer %d has %d lines of %d", w, n, lines)
		}
	}
}

// TestReaddirUnderChange reads a large directory while names come and go: those that stay are seen exactly once in every pass.
func TestReaddirUnderChange(t *testing.T) {
	const stable, passes, wanted = 20_000, 3, 100
	m := fstest.NewMount(t, fstest.Options{})
	dir := m.Path("d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range stable {
		mustWrite(t, filepath.Join(dir, fmt.Sprintf("stable-%d", i)), nil)
	}
	stop, churned := make(chan struct{}), make(chan struct{})
	var changes atomic.Int64
	go func() {
		defer close(churned)
		churn(t, dir, stop, &changes)
	}()
	deadline := time.Now().Add(2 * time.Minute) // a machine with much else to do may let the readers go first
	for pass := 0; pass < passes || changes.Load() < wanted && time.Now().Before(deadline); pass++ {
		seen := map[string]int{}
		names := readNames(t, dir)
		for _, name := range names {
			if strings.HasPrefix(name, "stable-") {
				seen[name]++
			}
		}
		if len(seen) != stable {
			t.Errorf("pass %d: %d of %d stable names", pass, len(seen), stable)
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("pass %d: %s is there %d times", pass, name, n)
			}
		}
	}
	close(stop)
	<-churned
	if changes.Load() < wanted {
		t.Errorf("only %d changes happened meanwhile", changes.Load())
	}
	if got := len(readNames(t, dir)); got != stable {
		t.Errorf("%d names in the end, want %d", got, stable)
	}
}

// churn creates, renames and removes names until stop, and leaves none.
func churn(t *testing.T, dir string, stop <-chan struct{}, changes *atomic.Int64) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		from, to := filepath.Join(dir, fmt.Sprintf("new-%d", i)), filepath.Join(dir, fmt.Sprintf("moved-%d", i))
		for _, err := range []error{os.WriteFile(from, nil, 0o644), os.Rename(from, to), os.Remove(to)} {
			if err != nil {
				t.Error(err)
				return
			}
		}
		changes.Add(3)
	}
}

// readNames reads a directory in small steps.
func readNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for {
		some, err := d.Readdirnames(100)
		names = append(names, some...)
		if len(some) == 0 {
			if err != nil && err.Error() != "EOF" {
				t.Fatal(err)
			}
			return names
		}
	}
}

// TestRemoveWhileListing removes every name as soon as it is listed, in small steps, as rm -r does.
func TestRemoveWhileListing(t *testing.T) {
	const files = 3000
	m := fstest.NewMount(t, fstest.Options{})
	dir := m.Path("d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		mustWrite(t, filepath.Join(dir, fmt.Sprint(i)), []byte("x"))
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	removed := 0
	for {
		names, _ := d.Readdirnames(50)
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			removed++
		}
	}
	if removed != files {
		t.Errorf("%d of %d removed in one pass", removed, files)
	}
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}
