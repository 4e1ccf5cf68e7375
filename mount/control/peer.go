package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a connection, as the kernel vouches for it at connect time.
type Peer struct {
	UID, GID, PID int
}

// peerOf asks the kernel who is at the other end.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("peer of control connection: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, fmt.Errorf("peer of control connection: %w", err)
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("peer of control connection: %w", credErr)
	}
	return Peer{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid)}, nil
}

// serves says whether the server answers this peer: its own user and root.
func (p Peer) serves() bool { return p.UID == 0 || p.UID == os.Geteuid() }

// believes says whether the client believes a server run by this peer. Root asks daemons of every user.
func (p Peer) believes() bool { return p.UID == 0 || p.UID == os.Geteuid() || os.Geteuid() == 0 }
