package posix_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/fs/posix"
	"github.com/kmsfs/kmsfs/fs/transport"
)

func TestMain(m *testing.M) {
	os.Exit(fstest.Main(m, map[string]fstest.Program{"posix": program, "helper": posix.Helper}))
}

// program is the child that runs the suite: BASE [NAME...]. It prints one result as JSON on each line.
func program(args []string) error {
	if len(args) < 1 {
		return errors.New("usage: BASE [NAME...]")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	r := posix.Runner{Base: args[0], Helper: func(args ...string) *exec.Cmd {
		cmd := exec.Command(exe, args...)
		cmd.Env = append(os.Environ(), fstest.ChildEnv("helper"))
		cmd.Stderr = os.Stderr
		return cmd
	}}
	out := json.NewEncoder(os.Stdout)
	for _, c := range posix.Cases() {
		if len(args) > 1 && !strings.Contains(c.FullName(), args[1]) {
			continue
		}
		if err := out.Encode(r.Run(c)); err != nil {
			return err
		}
	}
	return nil
}

// results runs the suite on a directory, in a child.
func results(t *testing.T, base string) map[string]posix.Result {
	t.Helper()
	args := []string{base}
	if only := os.Getenv("KMSFS_POSIX_ONLY"); only != "" {
		args = append(args, only)
	}
	out := fstest.Child(t, "posix", args...)
	got := map[string]posix.Result{}
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		var r posix.Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		if _, twice := got[r.Name]; twice {
			t.Errorf("two cases are called %s", r.Name)
		}
		got[r.Name] = r
	}
	return got
}

// documented returns the cases that docs/POSIX.md lists as differences: list items that begin with the name in backquotes.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile("../../docs/POSIX.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^- `([^`]+)`").FindAllStringSubmatch(string(page), -1) {
		names[m[1]] = true
	}
	return names
}

func TestSuiteSize(t *testing.T) {
	if n := len(posix.Cases()); n < 300 {
		t.Errorf("%d cases", n)
	}
}

// TestExt4 holds the suite to the truth.
func TestExt4(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	base := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(base, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.EXT4_SUPER_MAGIC {
		t.Skipf("%s is not on ext4", base)
	}
	openUp(t, base)
	for name, r := range results(t, base) {
		if r.Err != "" {
			t.Errorf("%s: %s", name, r.Err)
		}
	}
}

// afterRelease is the case whose difference shows when RELEASE has arrived. The kernel waits for that nowhere; over io_uring the next request may come first.
const afterRelease = "times/open and close"

// TestKmsfs: whatever differs is a line of docs/POSIX.md, and the other way round.
func TestKmsfs(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{Suid: true, Dev: true}})
	known := documented(t)
	got := results(t, m.Dir)
	passed := 0
	for name, r := range got {
		switch {
		case r.Skip != "":
			t.Logf("%s: skipped: %s", name, r.Skip)
		case r.Err == "" && known[name] && name == afterRelease && m.Server.Transport() == transport.Uring:
		case r.Err == "" && known[name]:
			t.Errorf("%s: passes, but is listed as a difference", name)
		case r.Err == "":
			passed++
		case !known[name]:
			t.Errorf("%s: %s", name, r.Err)
		}
	}
	t.Logf("%d of %d cases pass", passed, len(got))
	if os.Getenv("KMSFS_POSIX_ONLY") != "" {
		return
	}
	for name := range known {
		if _, ok := got[name]; !ok {
			t.Errorf("docs/POSIX.md lists %s, and there is no such case", name)
		}
	}
}

// openUp lets other users pass through the test's directories.
func openUp(t *testing.T, base string) {
	t.Helper()
	for _, dir := range []string{base, base[:strings.LastIndex(base, "/")]} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(fmt.Errorf("open up: %w", err))
		}
	}
}
