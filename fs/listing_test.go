package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/fstest"
)

// opCounter counts requests by name.
type opCounter struct {
	mu sync.Mutex
	n  map[string]int // guarded by mu
}

func (c *opCounter) Request(op string, _ time.Duration, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[op]++
}

func (c *opCounter) Read(int)    {}
func (c *opCounter) Written(int) {}

// take returns the counts since it was called before.
func (c *opCounter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = map[string]int{}
	return n
}

// await waits until n requests of a name were counted since take.
func (c *opCounter) await(t *testing.T, op string, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " times ", op), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.n[op] >= n
	})
}

// TestListingBringsAttributes: when the files of a directory were closed, the kernel does not know all their attributes any more. The next listing brings them, and stat costs no
// request each. A listing after that is the kernel's own again. Without access times: the first reads of new files change them, the kernel hears of it a moment later, and then it
// asks again for what a listing has just brought.
func TestListingBringsAttributes(t *testing.T) {
	ops := &opCounter{n: map[string]int{}}
	m := fstest.NewMount(t, fstest.Options{
		Mount: fs.MountOptions{Meter: ops, NoAtime: true}, Config: func(c *fs.Config) { c.NoAtime = true },
	})
	const files = 40
	for i := range files {
		if err := os.WriteFile(filepath.Join(m.Dir, fmt.Sprint("f", i)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := func() (requests int) {
		ops.take()
		entries, err := os.ReadDir(m.Dir)
		if err != nil || len(entries) != files {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		n := ops.take()
		return n["readdirplus"] + n["readdir"]
	}
	visit := func() int {
		ops.take()
		for i := range files {
			path := filepath.Join(m.Dir, fmt.Sprint("f", i))
			if info, err := os.Stat(path); err != nil || info.Size() != 1 {
				t.Fatalf("%v, %v", info, err)
			}
			if _, err := os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		ops.await(t, "release", files) // close(2) does not wait for it
		return ops.take()["getattr"]
	}
	ops.await(t, "release", files)
	list()
	visit()
	if n := list(); n == 0 {
		t.Error("the listing came from the kernel, though the files were closed")
	}
	if n := visit(); n > files/4 {
		t.Errorf("%d GETATTR for %d files just listed", n, files)
	}
	list()
	if n := list(); n != 0 {
		t.Errorf("a listing of a directory whose files nobody used cost %d requests", n)
	}
}
