package worker

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
)

// socketFD is the descriptor on which the worker finds its end of the
// socketpair.
const socketFD = 3

// Isolate prepares the worker's own process; its main calls it first. The process
// becomes not dumpable and leaves no core, dies with the thread that started it,
// ignores the signals by which its parent is asked to stop (it ends when the
// connection closes, after the parent's last call), and closes every descriptor
// it inherited but 0 to 3.
func Isolate() error {
	if err := closeInherited(); err != nil {
		return err
	}
	locked.Harden(nil)
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set the signal for the parent's death: %w", err)
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	return nil
}

// closeInherited closes what came over exec. The Go runtime's own descriptors
// are close-on-exec, so they did not.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list inherited descriptors: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= socketFD {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	unix.CloseOnExec(socketFD)
	return nil
}

// Inherited is the worker's end of the socketpair. It fails in a program that
// was not started by Start.
func Inherited() (net.Conn, error) {
	f := os.NewFile(socketFD, "parent")
	defer f.Close() // FileConn has a duplicate
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("no connection on descriptor %d (kmsfs starts this program itself): %w", socketFD, err)
	}
	return conn, nil
}
