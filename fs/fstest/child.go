package fstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// childVariable names in a child's environment what it is to run.
const childVariable = "KMSFS_FSTEST_CHILD"

// Program is what a child runs. Its arguments are those of Command. An error is printed and makes the child fail.
type Program func(args []string) error

// Main is for TestMain: in a child it runs one of programs and does not return, otherwise it runs the tests and returns the exit code.
func Main(m *testing.M, programs map[string]Program) int {
	name, ok := os.LookupEnv(childVariable)
	if !ok {
		return m.Run()
	}
	program := programs[name]
	if program == nil {
		fmt.Fprintf(os.Stderr, "no program %q\n", name)
		os.Exit(2)
	}
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
	return 0
}

// Command returns the test binary as a child that runs the program with args. Its output goes to the test's.
func Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), ChildEnv(program))
	cmd.Stderr = os.Stderr
	return cmd
}

// ChildEnv is what a child that runs the program needs in its environment.
func ChildEnv(program string) string { return childVariable + "=" + program }

// CopyForAll copies the test binary to where every user may run it, and returns its path.
func CopyForAll(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(openTempDir(t), "client")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Run runs a child and fails the test with its output if it fails.
func Run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return string(out)
}

// Child runs a program in a child, and fails the test if it fails.
func Child(t testing.TB, program string, args ...string) string {
	t.Helper()
	return Run(t, Command(t, program, args...))
}
