package mounttest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs itself twice: as the first process of a process namespace, and below that as the tests. When the outermost process ends, for
// whatever reason, the kernel ends the first process, with it all others of the namespace, and with these all mounts and loop devices.
const (
	stageVariable = "KMSFS_TEST_STAGE"
	stageInit     = "init"
	stageTests    = "tests"
	tmpfsSize     = "size=6g"
)

// MainApart is TestMain of a package whose tests run, as root, in a mount and a process namespace of their own, with a temporary directory in memory. It
// does not return.
func MainApart(m *testing.M) {
	switch stage := os.Getenv(stageVariable); {
	case stage == "" && os.Geteuid() == 0:
		if code, ok := apart(); ok {
			os.Exit(code)
		}
	case stage == stageInit:
		os.Exit(asInit())
	}
	os.Exit(Main(m))
}

// Main runs the tests of a package where they are, takes away what they have built, and returns their exit code.
func Main(m *testing.M) int {
	defer programs.remove()
	return m.Run()
}

// NeedApart skips a test that mounts and makes devices, unless it runs under MainApart as root.
func NeedApart(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	Need(t, os.Getenv(stageVariable) == stageTests, "needs a mount and a process namespace")
}

// apart runs the tests in namespaces and returns their exit code. ok is false where that is not allowed.
func apart() (code int, ok bool) {
	dir, err := os.MkdirTemp("", "kmsfs-test-")
	if err != nil {
		return 0, false
	}
	defer os.Remove(dir)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVariable+"="+stageInit, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no namespaces of our own:", err)
		return 0, false
	}
	if err := cmd.Wait(); err == nil {
		return 0, true
	}
	return max(1, cmd.ProcessState.ExitCode()), true
}

// asInit is the first process of the namespace: it runs the tests and reaps whoever loses its parent.
func asInit() int {
	if err := ownMounts(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(stageVariable, stageTests)
	tests, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Fprintln(os.Stderr, "wait:", err)
			return 1
		case pid == tests.Pid && status.Exited():
			return status.ExitStatus()
		case pid == tests.Pid && status.Signaled():
			return 1
		}
	}
}

func ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := detachAll("fuse.kmsfs"); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", os.TempDir(), "tmpfs", 0, tmpfsSize+",mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	return nil
}

// detachAll takes the mounts of a type out of this namespace: a copy of a mount keeps it alive after its own namespace has unmounted it.
func detachAll(fstype string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	points, err := mountPoints(f, fstype)
	if err != nil {
		return err
	}
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("detach %s: %w", point, err)
		}
	}
	return nil
}

// mountPoints reads mountinfo (proc(5)) and returns where filesystems of a type are mounted, the last mounted first.
func mountPoints(mountinfo io.Reader, fstype string) (points []string, err error) {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, fstype+" ") {
			continue
		}
		point, err := unescape(fields[4])
		if err != nil {
			return nil, fmt.Errorf("mount point %s: %w", fields[4], err)
		}
		points = append([]string{point}, points...)
	}
	return points, lines.Err()
}

// unescape replaces the octal escapes of mountinfo.
func unescape(s string) (string, error) {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] != '\\' || len(s) < 4 {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		n, err := strconv.ParseUint(s[1:4], 8, 8)
		if err != nil {
			return "", err
		}
		b.WriteByte(byte(n))
		s = s[4:]
	}
	return b.String(), nil
}
