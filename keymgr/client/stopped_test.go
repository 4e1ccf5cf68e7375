package client

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
)

// What tells the child where to call, and whether it registers first.
const (
	stoppedSocket   = "KMSFS_TEST_STOPPED_SOCKET"
	stoppedRegister = "KMSFS_TEST_STOPPED_REGISTER"
	stoppedLimit    = 4 * time.Second // time limit of its call
	stoppedFor      = 5 * time.Second
)

// TestStoppedClient: a client that did not run for longer than its time limit (a frozen container, a machine that was paused) takes the answer that is
// there when it goes on.
func TestStoppedClient(t *testing.T) {
	if socket := os.Getenv(stoppedSocket); socket != "" {
		stoppedCall(t, socket)
		return
	}
	for name, register := range map[string]string{"call": "", "registration": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pid := make(chan int, 1)
			socket := listen(t, func(c net.Conn) { serveStopped(t, c, <-pid) })
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestStoppedClient$", "-test.count=1")
			cmd.Env = append(os.Environ(), stoppedSocket+"="+socket, stoppedRegister+"="+register)
			cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pid <- cmd.Process.Pid
			if err := cmd.Wait(); err != nil {
				t.Error("the client that was stopped: ", err)
			}
		})
	}
}

// stoppedCall is the child.
func stoppedCall(t *testing.T, socket string) {
	opts := Options{Timeout: stoppedLimit}
	if os.Getenv(stoppedRegister) != "" {
		opts.Volume = blockcrypt.VolumeID{1}
	}
	cl := New(socket, opts)
	defer cl.Close()
	if _, err := cl.DescribeKey(t.Context(), keymgr.Caller{}, "k"); err != nil {
		t.Error(err)
	}
}

// serveStopped answers a client, which does not run for a while between its first request and the answer.
func serveStopped(t *testing.T, c net.Conn, pid int) {
	r := bufio.NewReader(c)
	for first := true; ; first = false {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		if first {
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				t.Error(err)
			}
			time.Sleep(stoppedFor)
			if err := unix.Kill(pid, unix.SIGCONT); err != nil {
				t.Error(err)
			}
			time.Sleep(stoppedLimit / 16) // the server stood still as well: its answer comes when the client's timers have fired
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	}
}
