package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// socket listens on a Unix socket in a directory that only its owner can use, and hands out a bounded number of connections at a time.
type socket struct {
	*net.UnixListener
	dir   int // O_PATH descriptor of the directory
	name  string
	slots chan struct{}
	once  sync.Once
}

// listen makes the directory (0700) and the socket. A socket that lies there is a dead keyd's: the caller holds the key store's lock. The path may be longer
// than a socket address: the directory is reached through its descriptor.
func listen(path string, conns int) (*socket, error) {
	dir, name := filepath.Dir(path), filepath.Base(path) // without a slash at the end, which would follow a symlink
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket directory %s: %w", dir, err)
	}
	l, err := listenIn(fd, dir, name)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &socket{UnixListener: l, dir: fd, name: name, slots: make(chan struct{}, conns)}, nil
}

func listenIn(fd int, dir, name string) (*net.UnixListener, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at socket directory %s: %w", dir, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("socket directory %s is not ours alone (uid %d, mode %04o)", dir, st.Uid, st.Mode&0o7777)
	}
	if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, name), err)
	}
	l.SetUnlinkOnClose(false) // its path will mean something else by then
	if err := unix.Fchmodat(fd, name, 0o600, 0); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("protect socket: %w", err)
	}
	return l, nil
}

// Accept waits for a free slot and a connection.
func (s *socket) Accept() (net.Conn, error) {
	s.slots <- struct{}{}
	c, err := s.AcceptUnix()
	if err != nil {
		<-s.slots
		return nil, err
	}
	p, err := peerOf(c)
	if err != nil { // the peer is gone already; nobody is there to be answered
		p = peer{uid: -1, gid: -1}
	}
	return &conn{UnixConn: c, peer: p, release: sync.OnceFunc(func() { <-s.slots })}, nil
}

// Close removes the socket and ends Accept.
func (s *socket) Close() (err error) {
	s.once.Do(func() {
		err = errors.Join(unix.Unlinkat(s.dir, s.name, 0), s.UnixListener.Close(), unix.Close(s.dir))
	})
	return err
}

// conn is a connection and who is at its other end.
type conn struct {
	*net.UnixConn
	peer    peer
	release func()
}

// Close ends the connection and frees its slot.
func (c *conn) Close() error {
	c.release()
	return c.UnixConn.Close()
}

// peer is a process as the kernel vouches for it: at the time it connected.
type peer struct{ uid, gid, pid int }

func peerOf(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) { cred, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return peer{}, err
	}
	if serr != nil {
		return peer{}, serr
	}
	return peer{uid: int(int32(cred.Uid)), gid: int(int32(cred.Gid)), pid: int(cred.Pid)}, nil
}
