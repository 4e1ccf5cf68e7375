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
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// dialer makes connections to a server that is to be trusted, registered if need be.
type dialer struct {
	path   string
	owner  *int
	volume blockcrypt.VolumeID
	right  bool

	timeout time.Duration // of a registration

	mu  sync.Mutex
	key *blockcrypt.Key // guarded by mu; nil: no proof
}

// proof answers a challenge, with nil where there is no key.
func (d *dialer) proof(challenge []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.key == nil {
		return nil
	}
	return keymgr.FrontEndProof(d.key, d.volume, challenge)
}

// forget ends the use of the key: a connection that is still being made goes without it.
func (d *dialer) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.key = nil
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
	if err := d.register(ctx, c); err != nil {
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

// register says for which volume the connection is there and proves it to be the front end's, before it carries anything else.
func (d *dialer) register(ctx context.Context, c net.Conn) error {
	ctx, cancel := awake.WithTimeout(ctx, d.timeout) // net/http dials without that of the request
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReader(c) // the server sends nothing beyond its answers, so nothing is lost in the buffer
	challenge, err := registerStep(c, r, wire.RegisterVolumeRequest{VolumeId: d.volume.String()})
	if err != nil {
		return fmt.Errorf("register volume %s: %w", d.volume, err)
	}
	claim := wire.RegisterVolumeRequest{VolumeId: d.volume.String(), ByRight: d.right, Proof: d.proof(challenge)}
	if claim.Proof != nil || d.right {
		if _, err := registerStep(c, r, claim); err != nil {
			return fmt.Errorf("register as the front end of volume %s: %w", d.volume, err)
		}
	}
	if !stop() {
		return fmt.Errorf("register volume %s: %w", d.volume, ctx.Err())
	}
	return nil
}

func registerStep(c net.Conn, r *bufio.Reader, in wire.RegisterVolumeRequest) (challenge []byte, err error) {
	body, err := wire.Encode(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, "http://keyd/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set(wire.HeaderTarget, wire.ServiceKmsfs+"RegisterVolume")
	if err := req.Write(c); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, wire.DecodeError(resp.StatusCode, answer)
	}
	var out wire.RegisterVolumeResponse
	err = wire.Decode(answer, &out)
	return out.Challenge, err
}
