package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// clientEnv names the program that this process is to be instead of the tests. Its arguments are the command line's.
const clientEnv = "KMSFS_E2E_CLIENT"

// clients are programs that use a mount from processes of their own. They print a line where the test waits for one, and go on when they read one.
var clients = map[string]func(c *clientIO, args []string) error{
	"entries":   entriesClient,
	"openfiles": openFilesClient,
	"stress":    func(_ *clientIO, args []string) error { return fstest.Stress(args) },
}

// clientIO is how a client talks to its test.
type clientIO struct{ in *bufio.Reader }

// reach tells the test that something is done and waits until it may go on.
func (c *clientIO) reach(what string, args ...any) error {
	if _, err := fmt.Printf(what+"\n", args...); err != nil {
		return err
	}
	_, err := c.in.ReadString('\n')
	return err
}

func runClient(name string) int {
	program := clients[name]
	if program == nil {
		fmt.Fprintf(os.Stderr, "no client %q\n", name)
		return 2
	}
	if err := program(&clientIO{bufio.NewReader(os.Stdin)}, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// client is the test's side of one.
type client struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err strings.Builder
}

// startClient starts a client, which is gone when the test ends.
func startClient(t *testing.T, name string, args ...string) *client {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, cmd: exec.Command(exe, args...)}
	c.cmd.Env = append(os.Environ(), clientEnv+"="+name)
	c.cmd.Stderr = &c.err
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Process.Kill()
			_ = c.cmd.Wait()
		}
	})
	return c
}

// await returns the line that the client prints next.
func (c *client) await() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("client %v: %v, %v\n%s", c.cmd.Args[1:], err, c.cmd.Wait(), c.err.String())
	}
	return strings.TrimSuffix(line, "\n")
}

// resume lets the client go on.
func (c *client) resume() {
	c.t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.t.Fatalf("client %v: %v", c.cmd.Args[1:], err)
	}
}

// end waits for the client's end, which must be a success.
func (c *client) end() {
	c.t.Helper()
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("client %v: %v\n%s", c.cmd.Args[1:], err, c.err.String())
	}
}
