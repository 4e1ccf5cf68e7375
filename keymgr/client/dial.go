package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// dialer makes connections to a server that is to be trusted, registered if need be.
type dialer struct {
	path   string
	owner  *int
	volume blockcrypt.VolumeID
}

// dial implements http.Transport.DialContext; network and address are HTTP's and mean nothing here. Errors: keymgr.ErrAccessDenied (directory or server not to be
// trusted), what a registration is answered, the system's.
func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	if d.volume.IsZero() {
		return c, nil
	}
	if err := register(ctx, c, d.volume); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// connect checks the directory, connects within it, and checks who listens. The directory is held by a descriptor throughout, so that nobody swaps it in between,
// and its path may be longer than a socket's address.
func (d *dialer) connect(ctx context.Context) (*net.UnixConn, error) {
	dir, name := filepath.Dir(d.path), filepath.Base(d.path) // without a slash at the end, which would follow a symlink
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
		return nil, untrusted("%s is not a directory of ours: %v", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket directory %s: %w", dir, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at socket directory %s: %w", dir, err)
	}
	if err := d.checkDir(dir, &st); err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", fd, name))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.path, err)
	}
	conn := c.(*net.UnixConn)
	if uid, err := peerUID(conn); err != nil || uid != int(st.Uid) {
		_ = conn.Close()
		return nil, untrusted("the process that listens on %s is uid %d's, not uid %d's (%v)", d.path, uid, st.Uid, err)
	}
	return conn, nil
}

// checkDir is nil if nobody but its owner can use the directory, and the owner is the one expected.
func (d *dialer) checkDir(dir string, st *unix.Stat_t) error {
	if st.Mode&0o077 != 0 {
		return untrusted("%s is open to others (mode %04o)", dir, st.Mode&0o7777)
	}
	owner, me := int(st.Uid), os.Geteuid()
	if d.owner != nil && owner != *d.owner || d.owner == nil && owner != me && owner != 0 {
		return untrusted("%s belongs to uid %d", dir, owner)
	}
	return nil
}

func untrusted(format string, args ...any) error {
	return &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: fmt.Sprintf(format, args...)}
}

// peerUID is the user whose process listens at the other end.
func peerUID(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) { cred, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return -1, err
	}
	if serr != nil {
		return -1, serr
	}
	return int(int32(cred.Uid)), nil
}

// register makes the connection the front end of the volume, before it carries anything else.
func register(ctx context.Context, c net.Conn, volume blockcrypt.VolumeID) error {
	body, err := wire.Encode(wire.RegisterVolumeRequest{VolumeId: volume.String()})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, "http://keyd/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set(wire.HeaderTarget, wire.ServiceKmsfs+"RegisterVolume")
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if err := req.Write(c); err != nil {
		return fmt.Errorf("register volume %s: %w", volume, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req) // the server sends nothing beyond its answer, so nothing is lost in the buffer
	if err != nil {
		return fmt.Errorf("register volume %s: %w", volume, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("register volume %s: %w", volume, err)
	}
	if resp.StatusCode != http.StatusOK {
		return wire.DecodeError(resp.StatusCode, answer)
	}
	return c.SetDeadline(time.Time{})
}
