package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestProcesses looks at the daemons as the kernel shows them: every descriptor but the standard ones is closed when a program is run, no core is
// written, and the key daemon has pages that are locked and left out of dumps and of children.
func TestProcesses(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	if err := os.WriteFile(filepath.Join(r.Mnt, "file"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"file daemon": r.PID, "key daemon": r.KeydPID()} {
		if pid == 0 {
			t.Fatalf("no %s", name)
		}
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		for _, fd := range inherited(t, proc) {
			t.Errorf("%s: descriptor %s stays open in programs that it runs", name, fd)
		}
		if limits := contents(t, filepath.Join(proc, "limits")); !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0") {
			t.Errorf("%s: cores are possible: %s", name, limits)
		}
		if name == "key daemon" && !lockedPages(contents(t, filepath.Join(proc, "smaps"))) {
			t.Errorf("%s: no page is locked, and left out of dumps and children", name)
		}
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if os.IsPermission(err) { // not dumpable: its own user may not look
		mounttest.Need(t, false, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// inherited returns the descriptors above 2 without O_CLOEXEC.
func inherited(t *testing.T, proc string) (open []string) {
	t.Helper()
	fds, err := os.ReadDir(filepath.Join(proc, "fdinfo"))
	if os.IsPermission(err) {
		mounttest.Need(t, false, "%v", err)
	}
	if err != nil || len(fds) < 4 {
		t.Fatal(len(fds), err)
	}
	const cloexec = 0o2000000
	for _, fd := range fds {
		info, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		if err != nil { // closed meanwhile
			continue
		}
		_, rest, _ := strings.Cut(string(info), "flags:")
		flags, err := strconv.ParseUint(strings.Fields(rest)[0], 8, 64)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := strconv.Atoi(fd.Name()); n > 2 && flags&cloexec == 0 {
			target, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
			open = append(open, fmt.Sprintf("%s (%s)", fd.Name(), target))
		}
	}
	return open
}

// lockedPages reports whether a mapping is locked (lo), left out of dumps (dd) and of children (dc).
func lockedPages(smaps string) bool {
	for _, line := range strings.Split(smaps, "\n") {
		flags, ok := strings.CutPrefix(line, "VmFlags:")
		if ok && strings.Contains(flags, " lo") && strings.Contains(flags, " dd") && strings.Contains(flags, " dc") {
			return true
		}
	}
	return false
}
