// Package client talks to a key manager (kmsfs keyd) over its Unix socket. Its methods are those of keymgr.Manager, with the same errors: errors.Is with
// keymgr's sentinels holds across the socket.
//
// It trusts the server only as far as the socket lies in a directory that nobody else can use and the process at the other end runs as the directory's
// owner. It does not start a server. A Client is safe for concurrent use and reconnects by itself; every call ends within its deadline.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// Time bounds of calls whose context has no earlier deadline, of time awake (package awake).
const (
	DefaultTimeout = 5 * time.Second
	UnlockTimeout  = time.Minute // of Unlock: a passphrase is slow on purpose
)

// Options of a Client; the zero value is usable.
type Options struct {
	Timeout time.Duration       // of one call; 0: DefaultTimeout. Unlock has at least UnlockTimeout
	Volume  blockcrypt.VolumeID // not zero: say on every connection that it is there for this volume
	Owner   *int                // uid that must own the socket's directory; nil: ours, or root

	// FrontEnd proves every connection to be that of the volume's front end, which may forward requests and advance the anchor. It is used until
	// Close; whoever made it wipes it then. FrontEndRight claims the right kmsfs:FrontEnd on the volume's key instead. With either, what is encrypted and decrypted in the client's own name
	// is asked for as a front end's (kms:ViaService).
	FrontEnd      *blockcrypt.Key
	FrontEndRight bool

	// Identity signs every request in the name of an identity; nil: the user of this process asks. With it Endpoint may be where keyd listens ("http://127.0.0.1:PORT", "https://HOST:PORT"), in place of the
	// socket; the system's certificate authorities count, and $SSL_CERT_FILE.
	Identity *AccessKey
	Endpoint string

	// Observe is told of each call: the operation, how long it took, and its error. nil: nobody is.
	Observe func(op string, took time.Duration, err error)
}

// Client is the near end of a key manager. Make one with Dial or New.
type Client struct {
	opts   Options
	dialer dialer
	http   *http.Transport
}

// New returns a Client of the socket (its path, see keystore.SocketPath) without contacting it.
func New(socket string, opts Options) *Client {
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	c := &Client{opts: opts, dialer: dialer{path: socket, owner: opts.Owner, volume: opts.Volume, key: opts.FrontEnd, right: opts.FrontEndRight, timeout: opts.Timeout}}
	c.http = &http.Transport{
		DialContext: c.dialer.dial, DisableCompression: true, MaxIdleConns: 4, MaxIdleConnsPerHost: 4,
		IdleConnTimeout: time.Minute, // the server keeps them longer, so it is not the one to hang up
	}
	if opts.Endpoint != "" {
		c.http.DialContext, c.http.TLSHandshakeTimeout = nil, opts.Timeout
	}
	if !opts.Volume.IsZero() {
		c.http.IdleConnTimeout = 0 // as long as it is connected, Status shows the volume
	}
	return c
}

func (c *Client) endpoint() string {
	if c.opts.Endpoint != "" {
		return c.opts.Endpoint + "/"
	}
	return "http://keyd/"
}

// Dial is New followed by one call of Status: keymgr.ErrKeyUnavailable when nobody answers, keymgr.ErrAccessDenied when the socket's directory or the
// server is not to be trusted.
func Dial(ctx context.Context, socket string, opts Options) (*Client, error) {
	c := New(socket, opts)
	if _, err := c.Status(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close drops the connections that are idle; others end with their calls. The front end's key is not used any more.
func (c *Client) Close() error {
	c.dialer.forget()
	c.http.CloseIdleConnections()
	return nil
}

// call asks for one operation: in and out are pointers to structs of package wire, or nil.
func (c *Client) call(ctx context.Context, by keymgr.Caller, target string, in, out any) error {
	return c.callWithin(ctx, c.opts.Timeout, by, target, in, out)
}

func (c *Client) callWithin(ctx context.Context, timeout time.Duration, by keymgr.Caller, target string, in, out any) (err error) {
	if c.opts.Observe != nil {
		began := time.Now()
		defer func() { c.opts.Observe(operation(target), time.Since(began), err) }()
	}
	return c.exchange(ctx, timeout, by, target, in, out)
}

// operation is a target without the service in front of it.
func operation(target string) string {
	_, op, found := strings.Cut(target, ".")
	if !found {
		return target
	}
	return op
}

func (c *Client) exchange(ctx context.Context, timeout time.Duration, by keymgr.Caller, target string, in, out any) error {
	ctx, cancel := awake.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := encodeInput(in)
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	src := &source{body: body}
	defer src.wipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint(), src.reader())
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return src.reader(), nil } // for a connection that was closed before it was used
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set(wire.HeaderTarget, target)
	if by.Via != "" {
		req.Header.Set(wire.HeaderForward, wire.EncodeForward(by))
	}
	if c.opts.Identity != nil {
		c.opts.Identity.sign(req, body, time.Now())
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return unavailable(target, err)
	}
	defer resp.Body.Close()
	answer, err := readAnswer(resp)
	defer clear(answer)
	if err != nil {
		return unavailable(target, err)
	}
	if resp.StatusCode != http.StatusOK {
		return wire.DecodeError(resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	if err := wire.Decode(answer, out); err != nil {
		return &keymgr.Fault{Class: keymgr.ErrInternal, Message: "malformed answer to " + target, Cause: err}
	}
	return nil
}

func encodeInput(in any) ([]byte, error) {
	if in == nil {
		return []byte("{}"), nil
	}
	return wire.Encode(in)
}

// readAnswer reads a body of known, bounded length into one buffer, so that wiping it wipes it all.
func readAnswer(resp *http.Response) ([]byte, error) {
	if resp.ContentLength < 0 || resp.ContentLength > wire.MaxAnswer {
		return nil, fmt.Errorf("answer of %d bytes", resp.ContentLength)
	}
	answer := make([]byte, resp.ContentLength)
	_, err := io.ReadFull(resp.Body, answer)
	return answer, err
}

// unavailable gives an error of the connection its class; what already has one (a refused registration, an untrusted server) keeps it.
func unavailable(target string, err error) error {
	var f *keymgr.Fault
	if errors.As(err, &f) {
		return fmt.Errorf("%s: %w", target, err)
	}
	return &keymgr.Fault{Class: keymgr.ErrKeyUnavailable, Message: "no key manager answers", Cause: fmt.Errorf("%s: %w", target, err)}
}
