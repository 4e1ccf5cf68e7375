package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// lowerDescriptors is how many descriptors the daemon may have open, however many files its users have: objects, journal, Badger's tables, itself.
const lowerDescriptors = 512 + 300

// TestOpenFiles has many files open for reading and writing at once, uses each of them, more than there are keys and lower descriptors cached, and holds
// the daemon's memory and its descriptors against bounds. Beside the caches, which are full by then, an open file takes some 600 bytes.
func TestOpenFiles(t *testing.T) {
	processes, each, bound := 2, 2_500, int64(160<<20)
	if mounttest.Long() {
		processes, each, bound = 8, 12_500, 512<<20
	}
	r := newRig(t)
	r.Init()
	r.Mount()
	pid := r.Daemon()
	idle := memory(t, pid)
	var all []*client
	for i := range processes {
		all = append(all, startClient(t, "openfiles", filepath.Join(r.Mnt, strconv.Itoa(i)), strconv.Itoa(each)))
	}
	for _, step := range []string{"open", "write", "sync", "read", "close"} {
		for _, c := range all {
			if line := c.await(); line != step {
				t.Fatalf("client: %q, want %q", line, step)
			}
		}
		held, lower := memory(t, pid), descriptors(t, pid)
		t.Logf("%-6s %4d MiB, %5d bytes a file, %d descriptors", step, held>>20, (held-idle)/int64(processes*each), lower)
		if held > bound {
			t.Errorf("%s: the daemon holds %d MiB, more than %d", step, held>>20, bound>>20)
		}
		if lower > lowerDescriptors {
			t.Errorf("%s: the daemon has %d descriptors open, more than %d", step, lower, lowerDescriptors)
		}
		for _, c := range all {
			c.resume()
		}
	}
	for _, c := range all {
		c.end()
	}
	r.Fsck()
}

// openFileSize is too large for an inline file: each has an object.
const openFileSize = 5_000

// openFilesClient is DIR COUNT.
func openFilesClient(c *clientIO, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := allowDescriptors(uint64(n) + 100); err != nil {
		return err
	}
	dir, err := makeDir(args[0])
	if err != nil {
		return err
	}
	fds := make([]int, n)
	for i := range fds {
		if fds[i], err = unix.Openat(dir, entryName(i), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"open", func() error { return nil }},
		{"write", func() error { return eachOf(fds, writePattern) }},
		{"sync", func() error { return unix.Syncfs(dir) }},
		{"read", func() error { return eachOf(fds, readPattern) }},
		{"close", func() error { return eachOf(fds, func(_, fd int) error { return unix.Close(fd) }) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if err := c.reach(step.name); err != nil {
			return err
		}
	}
	return nil
}

// allowDescriptors lets this process open n files; only root may go beyond the hard limit.
func allowDescriptors(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur, limit.Max = n, max(n, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

func eachOf(fds []int, do func(i, fd int) error) error {
	for i, fd := range fds {
		if err := do(i, fd); err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
	}
	return nil
}

func writePattern(i, fd int) error {
	_, err := unix.Pwrite(fd, pattern(i), 0)
	return err
}

// readPattern reads a file that is not in the page cache.
func readPattern(i, fd int) error {
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	got := make([]byte, openFileSize+1)
	n, err := unix.Pread(fd, got, 0)
	if err != nil {
		return err
	}
	if !bytes.Equal(got[:n], pattern(i)) {
		return fmt.Errorf("reads otherwise, %d bytes", n)
	}
	return nil
}

// pattern is the content of file i.
func pattern(i int) []byte {
	b := make([]byte, openFileSize)
	for off := 0; off+8 <= len(b); off += 8 {
		binary.LittleEndian.PutUint64(b[off:], uint64(i)<<32|uint64(off))
	}
	return b
}
