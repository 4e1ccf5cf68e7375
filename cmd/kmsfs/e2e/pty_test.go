package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal and returns both ends.
func terminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	need(t, err == nil, "no pseudo-terminals: %v", err)
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
	r.t.Helper()
	near, far := terminal(r.t)
	cmd := exec.Command(filepath.Join(bin, "kmsfs"), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = far, far, far, r.env, r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
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
	r.secret = nil
	if out, err := r.typed([]string{"one", "other"}, "init", r.volume); err == nil || !strings.Contains(out, "not equal") {
		t.Fatalf("two different passphrases: %v\n%s", err, out)
	}
	out, err := r.typed([]string{"open sesame", "open sesame"}, "init", r.volume)
	if err != nil || !strings.Contains(out, "passphrase again: ") {
		t.Fatalf("init: %v\n%s", err, out)
	}
	if strings.Contains(out, "sesame") {
		t.Fatalf("the passphrase was echoed:\n%s", out)
	}
	if out, err := r.typed([]string{"wrong"}, "mount", r.volume, r.mnt); err == nil || !strings.Contains(out, "kmsfs: ") {
		t.Fatalf("wrong passphrase: %v\n%s", err, out)
	}
	if out, err := r.typed([]string{"open sesame"}, "mount", r.volume, r.mnt); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	write(t, r.mnt+"/f", []byte("x"))
	r.umount()
	r.mount() // the key daemon is still there: nobody is asked
	r.mustBe(r.mnt+"/f", "x")
}
