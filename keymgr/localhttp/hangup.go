package localhttp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangups tells when the other end of one of its sockets is closed, at least for sending. It is an epoll of its own that waits in the runtime's poller: a socket that is being read already can be in both.
type hangups struct{ epoll *os.File }

func newHangups() (*hangups, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, os.NewSyscallError("epoll", err)
	}
	return &hangups{os.NewFile(uintptr(fd), "hangups")}, nil
}

func (h *hangups) close() { _ = h.epoll.Close() }

// add watches a connection until it is closed. false: it cannot.
func (h *hangups) add(nc any) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	epoll, err := h.epoll.SyscallConn()
	if err != nil {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var failed error
	err = epoll.Control(func(epfd uintptr) {
		err := raw.Control(func(fd uintptr) {
			failed = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)})
		})
		if failed == nil {
			failed = err
		}
	})
	return err == nil && failed == nil
}

// run sends to tell, which has room for one, after each hangup, until h is closed.
func (h *hangups) run(tell chan<- struct{}) {
	raw, err := h.epoll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 16)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			if n, err = unix.EpollWait(int(fd), events, 0); err == unix.EINTR {
				n = 1 // another look does no harm
			}
			return n != 0
		})
		if err != nil || n < 0 {
			return
		}
		select {
		case tell <- struct{}{}:
		default:
		}
	}
}
