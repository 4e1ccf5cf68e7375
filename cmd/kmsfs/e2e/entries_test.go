package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestLargeDirectory makes, looks up, lists and deletes the entries of one directory, and holds the daemon's memory against a bound: the caches, an
// overlay of rows that waits for a checkpoint, Badger's tables. Entries add nothing to that but a counter of some 30 bytes for each that the kernel
// remembers.
func TestLargeDirectory(t *testing.T) {
	entries, bound := 10_000, int64(128<<20)
	if mounttest.Long() {
		entries, bound = 1_000_000, 512<<20
	}
	r := newRig(t)
	r.Init()
	r.Mount()
	pid := r.Daemon()
	c := startClient(t, "entries", filepath.Join(r.Mnt, "large"), strconv.Itoa(entries))
	began := time.Now()
	for {
		line := c.await()
		held := memory(t, pid)
		t.Logf("%-16s %8s %4d MiB", line, time.Since(began).Round(time.Second), held>>20)
		if held > bound {
			t.Errorf("%s: the daemon holds %d MiB, more than %d", line, held>>20, bound>>20)
		}
		c.resume()
		if line == "end" {
			break
		}
	}
	c.end()
	r.Fsck()
}

// entriesClient is DIR COUNT.
func entriesClient(c *clientIO, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	dir, err := makeDir(args[0])
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := forEach(c, "create", n, func(i int) error { return createAt(dir, entryName(i)) }); err != nil {
		return err
	}
	if err := forEach(c, "look up", n, func(i int) error {
		var st unix.Stat_t
		return unix.Fstatat(dir, entryName(i), &st, unix.AT_SYMLINK_NOFOLLOW)
	}); err != nil {
		return err
	}
	if err := listed(args[0], n); err != nil {
		return err
	}
	if err := c.reach("list"); err != nil {
		return err
	}
	if err := forEach(c, "unlink", n, func(i int) error { return unix.Unlinkat(dir, entryName(i), 0) }); err != nil {
		return err
	}
	if err := listed(args[0], 0); err != nil {
		return err
	}
	if err := unix.Rmdir(args[0]); err != nil {
		return err
	}
	return c.reach("end")
}

// forEach does something with each of n entries, and tells the test after each tenth of them.
func forEach(c *clientIO, what string, n int, do func(i int) error) error {
	for i := range n {
		if err := do(i); err != nil {
			return fmt.Errorf("%s entry %d: %w", what, i, err)
		}
		if (i+1)%(n/10) == 0 {
			if err := c.reach("%s %d", what, i+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func entryName(i int) string { return fmt.Sprintf("entry-%07d", i) }

func makeDir(path string) (int, error) {
	if err := unix.Mkdir(path, 0o755); err != nil {
		return -1, err
	}
	return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func createAt(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// listed reads a directory, which must hold each of the entries 0 to n-1 once and nothing else.
func listed(path string, n int) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	seen, count := make([]bool, n), 0
	for {
		names, err := dir.Readdirnames(1000)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			var i int
			if _, err := fmt.Sscanf(name, "entry-%d", &i); err != nil || i < 0 || i >= n || seen[i] {
				return fmt.Errorf("list: %q is not there or comes again", name)
			}
			seen[i] = true
			count++
		}
	}
	if count != n {
		return fmt.Errorf("list: %d of %d entries", count, n)
	}
	return nil
}
