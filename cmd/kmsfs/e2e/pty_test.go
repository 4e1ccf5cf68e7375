package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// terminal opens a pseudo-terminal and returns both ends.
func terminal(t testing.TB) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	mounttest.Need(t, err == nil, "no pseudo-terminals: %v", err)
	t.Cleanup(func() { near.Close() })
	fd := int(near.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // Fd made it blocking: read deadlines would have no effect
		t.Fatal(err)
	}
	far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// typed runs kmsfs on a terminal, and answers each prompt (text that ends in ": ") with the next line. It returns what the terminal showed.
func (r *rig) typed(lines []string, args ...string) (string, error) {
	r.T.Helper()
	near, far := terminal(r.T)
	cmd := exec.Command(mounttest.Program(r.T), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = far, far, far, r.Env, r.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		r.T.Fatal(err)
	}
	far.Close()
	shown := make(chan string, 1)
	go func() { shown <- converse(near, lines) }()
	err := cmd.Wait()
	near.SetReadDeadline(time.Now().Add(2 * time.Second))
	return <-shown, err
}

func converse(near *os.File, lines []string) string {
	var all bytes.Buffer
	answered := 0
	buf := make([]byte, 4096)
	for {
		n, err := near.Read(buf)
		all.Write(buf[:n])
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			return all.String()
		}
		if prompts := strings.Count(all.String(), ": "); prompts > answered && answered < len(lines) && strings.HasSuffix(all.String(), ": ") {
			fmt.Fprintf(near, "%s\n", lines[answered])
			answered++
		}
	}
}

// TestPrompt types passphrases on a terminal.
func TestPrompt(t *testing.T) {
	r := newRig(t)
	r.Secret = nil
	if out, err := r.typed([]string{"one", "other"}, "init", r.Volume); err == nil || !strings.Contains(out, "not equal") {
		t.Fatalf("two different passphrases: %v\n%s", err, out)
	}
	out, err := r.typed([]string{"open sesame", "open sesame"}, "init", r.Volume)
	if err != nil || !strings.Contains(out, "passphrase again: ") {
		t.Fatalf("init: %v\n%s", err, out)
	}
	if strings.Contains(out, "sesame") {
		t.Fatalf("the passphrase was echoed:\n%s", out)
	}
	if out, err := r.typed([]string{"wrong"}, "mount", r.Volume, r.Mnt); err == nil || !strings.Contains(out, "kmsfs: ") {
		t.Fatalf("wrong passphrase: %v\n%s", err, out)
	}
	if out, err := r.typed([]string{"open sesame"}, "mount", r.Volume, r.Mnt); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	write(t, r.Mnt+"/f", []byte("x"))
	r.Umount()
	r.Mount() // the key daemon is still there: nobody is asked
	r.mustBe(r.Mnt+"/f", "x")
}
