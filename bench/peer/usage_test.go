package peer

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestParseCPU(t *testing.T) {
	got, err := parseCPU([]byte("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1"))
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "7 (a) S 1 2", "7 (a) S 1 2 3 4 5 6 7 8 9 10 x 25 0"} {
		if _, err := parseCPU([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParseMemory(t *testing.T) {
	got, err := parseMemory("Name:\ta\nVmRSS:\t  900 kB\nRssAnon:\t     120 kB\nRssFile:\t 700 kB\nRssShmem:\t      8 kB\n")
	if err != nil || got != 128<<10 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "RssAnon:\t120 kB\n", "RssAnon:\tx kB\nRssShmem:\t8 kB\n"} {
		if _, err := parseMemory(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestOwnUse asks for this process, after it has used something.
func TestOwnUse(t *testing.T) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for used() < 50*time.Millisecond { // of the processor, however long that takes
	}
	before := used()
	if got, err := CPU([]int{os.Getpid(), os.Getpid()}); err != nil || got < 2*(before-20*time.Millisecond) || got > 2*used() {
		t.Errorf("processor time %v, %v; it is 2 * %v", got, err, before)
	}
	held := bytes.Repeat([]byte{1}, 8<<20)
	if got, err := Memory(os.Getpid()); err != nil || got < int64(len(held)) || held[0] != 1 {
		t.Errorf("memory %v, %v", got, err)
	}
	if _, err := CPU([]int{1 << 30}); err == nil {
		t.Error("a process that is not there")
	}
}

// TestDiskUse: holes take no room, and a file with two names takes it once.
func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	empty, err := diskUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a")
	if err := os.WriteFile(file, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Create(filepath.Join(dir, "hole")); err != nil {
		t.Fatal(err)
	} else if err := f.Truncate(1 << 30); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if got, err := diskUse(dir); err != nil || got-empty < 64<<10 || got-empty > 1<<20 {
		t.Errorf("%d bytes, %v", got-empty, err)
	}
}
