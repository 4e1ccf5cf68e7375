package fs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/fstest"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestCopySparseOfFileBeingWritten: cp asks where data and holes are, and the kernel passes that on without writing back first.
func TestCopySparseOfFileBeingWritten(t *testing.T) {
	fstest.RequireTool(t, "cp")
	m := fstest.NewMount(t, fstest.Options{})
	f, err := os.Create(m.Path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := make([]byte, 3<<20)
	for _, off := range []int{0, 1 << 20, 3<<20 - 10} {
		piece := bytes.Repeat([]byte{byte(off>>20) + 1}, min(100_000, len(want)-off))
		copy(want[off:], piece)
		if _, err := f.WriteAt(piece, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	for _, how := range []string{"always", "auto", "never"} {
		to := m.Path("copy-" + how)
		run(t, "cp", "--sparse="+how, m.Path("f"), to)
		got, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameBytes(got, want); err != nil {
			t.Errorf("--sparse=%s: %v", how, err)
		}
	}
	if _, err := f.WriteAt([]byte("later"), 2<<20); err != nil { // pages are dirty again
		t.Fatal(err)
	}
	copy(want[2<<20:], "later")
	run(t, "cp", "--sparse=always", m.Path("f"), m.Path("again"))
	if got, err := os.ReadFile(m.Path("again")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a second copy differs (%v)", err)
	}
}

// TestToolsUnderChange has find list, and rm -rf remove, a tree in which names come and go meanwhile.
func TestToolsUnderChange(t *testing.T) {
	const dirs, files = 20, 150
	m := fstest.NewMount(t, fstest.Options{})
	var want []string
	for d := range dirs {
		dir := m.Path("tree", fmt.Sprint("d", d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range files {
			path := filepath.Join(dir, fmt.Sprint("stable-", f))
			mustWrite(t, path, nil)
			want = append(want, path)
		}
	}
	slices.Sort(want)
	stop, churned := make(chan struct{}), make(chan struct{})
	var changes atomic.Int64
	go func() {
		defer close(churned)
		churn(t, m.Path("tree", "d7"), stop, &changes)
	}()
	for range 3 {
		had := changes.Load()
		for changes.Load() < had+10 { // it has begun, and goes on
			runtime.Gosched()
		}
		got := strings.Split(strings.TrimSpace(run(t, "find", m.Path("tree"), "-name", "stable-*", "-size", "0")), "\n")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("find lists %d names, %d are there; or others", len(got), len(want))
		}
	}
	close(stop)
	<-churned
	// Two of them, and one that makes new names as long as there is a directory for them: what is left is what came too late.
	making := make(chan struct{})
	go func() {
		defer close(making)
		for i := 0; i < 300; i++ {
			if err := os.WriteFile(m.Path("tree", "d11", fmt.Sprint("late-", i)), nil, 0o644); err != nil {
				return
			}
		}
	}()
	removed := make(chan error, 2)
	for range 2 {
		go func() { removed <- exec.Command("rm", "-rf", m.Path("tree")).Run() }()
	}
	_, _ = <-removed, <-removed // they may have met a directory that was filled again
	<-making
	for path := range filesBelow(t, m.Path("tree")) {
		if !strings.HasPrefix(filepath.Base(path), "late-") {
			t.Errorf("rm left %s", path)
		}
	}
	run(t, "rm", "-rf", m.Path("tree"))
	if left := readNames(t, m.Dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	m.Check()
}

// filesBelow returns the paths of what is no directory below dir, which may be gone.
func filesBelow(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[path] = true
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return found
}

func TestACLTools(t *testing.T) {
	setfacl, getfacl := fstest.RequireTool(t, "setfacl"), fstest.RequireTool(t, "getfacl")
	m := fstest.NewMount(t, fstest.Options{})
	get := func(path string) string { return strings.TrimSpace(run(t, getfacl, "-cpEn", path)) }
	mustWrite(t, m.Path("f"), []byte("x"))

	run(t, setfacl, "-m", "u:1234:rw,g:2345:r,m:rw", m.Path("f"))
	want := "user::rw-\nuser:1234:rw-\ngroup::r--\ngroup:2345:r--\nmask::rw-\nother::r--"
	if got := get(m.Path("f")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if st, err := os.Stat(m.Path("f")); err != nil || st.Mode().Perm() != 0o664 {
		t.Errorf("mode %v, %v: the group bits are the mask", st.Mode(), err)
	}
	if err := os.Chmod(m.Path("f"), 0o640); err != nil {
		t.Fatal(err)
	}
	want = strings.Replace(strings.Replace(want, "mask::rw-", "mask::r--", 1), "other::r--", "other::---", 1)
	if got := get(m.Path("f")); got != want {
		t.Errorf("after chmod got\n%s\nwant\n%s", got, want)
	}
	m.Remount()
	if got := get(m.Path("f")); got != want {
		t.Errorf("after remount got\n%s\nwant\n%s", got, want)
	}
	run(t, setfacl, "-b", m.Path("f"))
	if got, want := get(m.Path("f")), "user::rw-\ngroup::r--\nother::---"; got != want {
		t.Errorf("after removal got\n%s\nwant\n%s", got, want)
	}

	if err := os.Mkdir(m.Path("d"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, setfacl, "-d", "-m", "u:1234:rwx,o::-", m.Path("d"))
	mustWrite(t, m.Path("d", "f"), nil)
	if err := os.Mkdir(m.Path("d", "sub"), 0o777); err != nil {
		t.Fatal(err)
	}
	if got, want := get(m.Path("d", "f")), "user::rw-\nuser:1234:rwx\ngroup::r-x\nmask::r--\nother::---"; got != want {
		t.Errorf("inherited by a file:\n%s\nwant\n%s", got, want)
	}
	want = "user::rwx\nuser:1234:rwx\ngroup::r-x\nmask::rwx\nother::---"
	if got, want := get(m.Path("d", "sub")), want+"\ndefault:"+strings.ReplaceAll(want, "\n", "\ndefault:"); got != want {
		t.Errorf("inherited by a directory:\n%s\nwant\n%s", got, want)
	}
}

func TestExecute(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run(t, "cp", exe, m.Path("program"))
	m.Remount()
	cmd := fromMount(fstest.Command(t, "hello"), m.Path("program"))
	if out := fstest.Run(t, cmd); out != "hello\n" {
		t.Errorf("it said %q", out)
	}
	script := m.Path("script")
	if err := os.WriteFile(script, []byte("#!"+m.Path("program")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd = fromMount(fstest.Command(t, "hello"), script)
	if out := fstest.Run(t, cmd); out != "hello\n" {
		t.Errorf("the script said %q", out)
	}
}

// fromMount has cmd run a program of a mount that this process serves, by way of env: the runtime waits for a child until it has executed its program, and if it collects garbage
// in that moment, which needs that thread, nobody answers the child.
func fromMount(cmd *exec.Cmd, program string) *exec.Cmd {
	by := exec.Command("env", program)
	by.Env, by.Stderr = cmd.Env, cmd.Stderr
	return by
}

func TestNoExec(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{NoExec: true}})
	if err := os.WriteFile(m.Path("script"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fromMount(exec.Command("env"), m.Path("script")).Run(); err == nil {
		t.Error("a program ran on a noexec mount")
	}
}

// helloProgram is what is executed from the mount.
func helloProgram([]string) error {
	_, err := fmt.Println("hello")
	return err
}
