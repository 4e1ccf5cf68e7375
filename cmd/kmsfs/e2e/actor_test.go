package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// actorEnv makes the test's program an actor: a process that does what it is told, a line at a time, as the user and program that it is.
const actorEnv = "KMSFS_E2E_ACTOR"

// runActor answers each line by "ok" with a value, or the name of an errno.
func runActor() int {
	debug.SetPanicOnFault(true)
	unix.Umask(0)
	a := &acting{files: map[string]*os.File{}, maps: map[string][]byte{}}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		value, err := a.do(strings.Split(lines.Text(), "\t"))
		if err != nil {
			var errno syscall.Errno
			if value = err.Error(); errors.As(err, &errno) {
				value = unix.ErrnoName(errno)
			}
			fmt.Println(value)
			continue
		}
		fmt.Println(strings.TrimSpace("ok " + value))
	}
	return 0
}

type acting struct {
	files map[string]*os.File
	maps  map[string][]byte
}

func (a *acting) do(words []string) (string, error) {
	op, path, more := words[0], words[1], append(words[2:], "")
	switch op {
	case "List":
		_, err := os.ReadDir(path)
		return "", err
	case "Read":
		b, err := os.ReadFile(path)
		return string(b), err
	case "Write":
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		_, err = f.WriteString("written")
		return "", errors.Join(err, f.Close())
	case "Create":
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return "", err
		}
		return "", f.Close()
	case "Mkdir":
		return "", os.Mkdir(path, 0o777)
	case "Delete":
		return "", os.Remove(path)
	case "Rename":
		return "", os.Rename(path, more[0])
	case "SetAttr":
		return "", unix.Setxattr(path, "user.test", []byte("x"), 0)
	case "Attribute":
		b := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, more[0], b)
		return string(b[:max(n, 0)]), err
	case "Stat":
		_, err := os.Lstat(path)
		return "", err
	}
	return a.hold(op, path, more[0])
}

// hold works with files that stay open, by a name of the test's.
func (a *acting) hold(op, name, arg string) (string, error) {
	switch op {
	case "open", "openro":
		flags := os.O_RDWR
		if op == "openro" {
			flags = os.O_RDONLY
		}
		f, err := os.OpenFile(arg, flags, 0)
		a.files[name] = f
		return "", err
	case "close":
		if b := a.maps[name]; b != nil {
			delete(a.maps, name)
			if err := unix.Munmap(b); err != nil {
				return "", err
			}
		}
		return "", a.files[name].Close()
	case "pread":
		b := make([]byte, 64)
		n, err := a.files[name].ReadAt(b, 0)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return string(b[:n]), err
	case "pwrite":
		_, err := a.files[name].WriteAt([]byte(arg), 0)
		return "", err
	case "pwritefar":
		_, err := a.files[name].WriteAt([]byte(arg), 1<<20)
		return "", err
	case "fsync":
		return "", a.files[name].Sync()
	case "mmap":
		b, err := unix.Mmap(int(a.files[name].Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		a.maps[name] = b
		return "", err
	case "touch":
		return touch(a.maps[name])
	}
	return "", fmt.Errorf("unknown operation %q", op)
}

// touch reads a mapping; a fault is an error.
func touch(b []byte) (s string, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("SIGBUS")
		}
	}()
	return string(append([]byte(nil), b[:8]...)), nil
}

// actor is such a process.
type actor struct {
	t    *testing.T
	name string
	in   io.WriteCloser
	out  *bufio.Reader
	pid  int
}

// actorProgram puts a copy of this program into a directory that everybody can go through, different from all others in its last bytes.
func actorProgram(t *testing.T, dir, name string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, append(self, name...), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// newActor starts a program as a user, with groups beside the user's own, in a session of its own: that of the tests may have its leader outside of this PID namespace.
func newActor(t *testing.T, name, program string, uid uint32, groups ...uint32) *actor {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), actorEnv+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
	return startActor(t, name, cmd)
}

func startActor(t *testing.T, name string, cmd *exec.Cmd) *actor {
	t.Helper()
	a := &actor{t: t, name: name}
	var err error
	if a.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.out = bufio.NewReader(out)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = a.in.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	})
	return a
}

// do has the actor do something and returns its answer: "ok", "ok VALUE", or an errno.
func (a *actor) do(words ...string) string {
	a.t.Helper()
	if _, err := io.WriteString(a.in, strings.Join(words, "\t")+"\n"); err != nil {
		a.t.Fatalf("%s: %v", a.name, err)
	}
	line, err := a.out.ReadString('\n')
	if err != nil {
		a.t.Fatalf("%s: %s: %v", a.name, words, err)
	}
	return strings.TrimSpace(line)
}

// ok has the actor do something that must succeed.
func (a *actor) ok(words ...string) string {
	a.t.Helper()
	answer := a.do(words...)
	value, ok := strings.CutPrefix(answer, "ok")
	if !ok {
		a.t.Fatalf("%s: %s: %s", a.name, words, answer)
	}
	return strings.TrimSpace(value)
}
