package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// ErrListen: an address that keyd does not listen on.
var ErrListen = errors.New("keyd does not listen there")

// tcpListener listens for signed requests and hands out a bounded number of connections at a time.
type tcpListener struct {
	net.Listener
	slots chan struct{}
	gone  chan struct{} // closed when it is
	once  sync.Once
}

// CheckListen is nil for an address that keyd may listen on: ADDRESS:PORT, and without TLS a loopback address. ErrListen.
func CheckListen(address string, tls bool) error {
	a, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %.64q is no IP address and port, as 127.0.0.1:8200", ErrListen, address)
	case !tls && !a.Addr().Unmap().IsLoopback():
		return fmt.Errorf("%w: %s can be reached from other hosts, and what is asked and answered could be read on the way: give it --tls-cert and --tls-key, or a loopback address",
			ErrListen, address)
	}
	return nil
}

func listenTCP(address string, tls bool, conns int) (*tcpListener, error) {
	if err := CheckListen(address, tls); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &tcpListener{Listener: l, slots: make(chan struct{}, conns), gone: make(chan struct{})}, nil
}

// Accept waits for a free slot and a connection.
func (l *tcpListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.gone:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &tcpConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends Accept.
func (l *tcpListener) Close() (err error) {
	l.once.Do(func() { close(l.gone); err = l.Listener.Close() })
	return err
}

// tcpConn frees its slot when it is closed.
type tcpConn struct {
	net.Conn
	release func()
}

func (c *tcpConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// signed answers a request whose signature says who asks, as all over TCP do. Only AWS' operations are there, and what identities may do of ours.
func (s *server) signed(w http.ResponseWriter, r *http.Request, id string) (operation, *request, error) {
	body, err := readBody(w, r)
	if err != nil {
		clear(body)
		return operation{}, nil, err
	}
	op, req, err := s.signedRequest(r, body, id)
	if err != nil {
		clear(body)
	}
	return op, req, err
}

func (s *server) signedRequest(r *http.Request, body []byte, id string) (op operation, req *request, err error) {
	m, err := s.manager()
	if err != nil {
		return op, nil, err
	}
	ctx, cancel := awake.WithTimeout(r.Context(), s.bounds.call)
	defer cancel()
	who, accessKey, err := s.signatures.verify(ctx, r, body, m)
	if err != nil {
		return op, nil, err
	}
	if op, err = operationOf(r); err != nil {
		return op, nil, err
	}
	if !op.aws && !op.signed || len(r.Header.Values("X-Kmsfs-Forward")) > 0 {
		return op, nil, &keymgr.Fault{Class: keymgr.ErrUnknownOperation}
	}
	by := keymgr.Caller{UID: -1, GID: -1, Principal: who.ARN, AccessKeyID: accessKey, Who: who, RequestID: id, From: originOf(r)}
	if by, err = forwardedUser(r, op, by); err != nil {
		return op, nil, err
	}
	return op, &request{by: by, body: body}, nil
}

// maxHostHeader bounds what a record says of the name by which the client called the server, in bytes.
const maxHostHeader = 256

// originOf is from where a request came.
func originOf(r *http.Request) keymgr.Origin {
	from := keymgr.Origin{UserAgent: r.UserAgent(), TLS: r.TLS != nil}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from.Addr = peer.Addr()
	}
	if r.TLS != nil {
		from.Details = &audit.TLS{Version: strings.Replace(tls.VersionName(r.TLS.Version), "TLS ", "TLSv", 1), Suite: tls.CipherSuiteName(r.TLS.CipherSuite), Host: r.Host[:min(len(r.Host), maxHostHeader)]}
	}
	return from
}
