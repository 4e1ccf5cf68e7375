package fs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
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
	cmd := fstest.Command(t, "hello")
	cmd.Path = m.Path("program")
	if out := fstest.Run(t, cmd); out != "hello\n" {
		t.Errorf("it said %q", out)
	}
	script := m.Path("script")
	if err := os.WriteFile(script, []byte("#!"+m.Path("program")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd = fstest.Command(t, "hello")
	cmd.Path = script
	if out := fstest.Run(t, cmd); out != "hello\n" {
		t.Errorf("the script said %q", out)
	}
}

func TestNoExec(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{NoExec: true}})
	if err := os.WriteFile(m.Path("script"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(m.Path("script")).Run(); err == nil {
		t.Error("a program ran on a noexec mount")
	}
}

// helloProgram is what is executed from the mount.
func helloProgram([]string) error {
	_, err := fmt.Println("hello")
	return err
}
