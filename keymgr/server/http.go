package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// request is one operation asked for.
type request struct {
	session *session
	by      keymgr.Caller
	body    []byte // wiped when the request is answered
}

// ServeHTTP answers one request: who, what, body, operation, in this order.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := audit.NewID()
	answer, err := s.answer(w, r, id)
	status := http.StatusOK
	if err != nil {
		clear(answer)
		status, answer = wire.EncodeError(err)
		s.log.Debug("refused", "operation", r.Header.Get(wire.HeaderTarget), "request", id, "error", err)
	}
	defer clear(answer)
	h := w.Header()
	h.Set("Content-Type", wire.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(answer)))
	h.Set(wire.HeaderRequestID, id)
	if r.ContentLength > wire.MaxBody {
		h.Set("Connection", "close") // what is on its way will not be read
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer) // the client is gone or slow; it may ask again
}

// answer returns the body of the answer, which the caller wipes.
func (s *server) answer(w http.ResponseWriter, r *http.Request, id string) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.fatal(id, p)
			answer, err = nil, &keymgr.Fault{Class: keymgr.ErrInternal}
		}
	}()
	op, req, err := s.admit(w, r, id)
	if err != nil {
		s.measure("refused", time.Now(), &err) // whatever it was called
		return nil, err
	}
	defer s.measure(op.name, time.Now(), &err)
	defer clear(req.body)
	timeout := s.bounds.call
	if op.slow {
		timeout = s.bounds.unlock
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.bounds.unlock + s.bounds.write))
	}
	ctx, cancel := awake.WithTimeout(r.Context(), timeout)
	defer cancel()
	out, err := s.inTurn(ctx, op, req)
	if err != nil {
		return nil, err
	}
	defer wire.Wipe(out)
	return wire.Encode(out)
}

// fatal is called when a request panicked. What is in memory may be half changed, so nothing is answered from it: the process ends, and is started anew from what
// is stored. The log has the kind of the panic only, which may have a secret in its words.
func (s *server) fatal(id string, reason any) {
	s.log.Error("a request panicked, the process ends", "request", id, "panic", fmt.Sprintf("%T", reason), "stack", string(debug.Stack()))
	if s.cfg.Fatal != nil {
		s.cfg.Fatal()
		return
	}
	os.Exit(ExitPanic)
}

// measure tells of an operation that began then.
func (s *server) measure(op string, began time.Time, err *error) {
	if s.cfg.Observe != nil {
		s.cfg.Observe(op, time.Since(began), *err)
	}
}

// admit finds out who asks what. The caller wipes the body.
func (s *server) admit(w http.ResponseWriter, r *http.Request, id string) (operation, *request, error) {
	sess, ok := r.Context().Value(sessionKey{}).(*session)
	if ok && sess.tcp {
		return s.signed(w, r, id)
	}
	if !ok || !allowedPeer(sess.peer) {
		return operation{}, nil, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "this key manager answers its owner only"}
	}
	if len(r.Header.Values("Authorization")) > 0 { // an identity, not the user of the process
		return s.signed(w, r, id)
	}
	op, err := operationOf(r)
	if err != nil {
		return op, nil, err
	}
	by, err := s.callerOf(r, sess, op)
	if err != nil {
		return op, nil, err
	}
	by.RequestID = id
	body, err := readBody(w, r)
	if err != nil {
		clear(body)
		return op, nil, err
	}
	return op, &request{session: sess, by: by, body: body}, nil
}

// allowedPeer lets the owner of this process and root through.
func allowedPeer(p peer) bool { return p.uid == os.Geteuid() || p.uid == 0 }

// operationOf finds what a request asks for.
func operationOf(r *http.Request) (operation, error) {
	target := r.Header.Get(wire.HeaderTarget)
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "" || len(r.Header.Values(wire.HeaderTarget)) != 1 {
		return operation{}, &keymgr.Fault{Class: keymgr.ErrUnknownOperation}
	}
	switch r.Header.Get("Content-Type") {
	case wire.ContentType, "application/json":
	default:
		return operation{}, &keymgr.Fault{Class: keymgr.ErrSerialization, Message: "Content-Type is not " + wire.ContentType}
	}
	op, ok := operations(target)
	if !ok {
		return operation{}, &keymgr.Fault{Class: keymgr.ErrUnknownOperation}
	}
	return op, nil
}

// callerOf says who asks: the peer itself, or, on a registered connection, whom it forwards.
func (s *server) callerOf(r *http.Request, sess *session, op operation) (keymgr.Caller, error) {
	by := keymgr.Caller{UID: sess.peer.uid, GID: sess.peer.gid, PID: sess.peer.pid}
	volume := sess.volume.Load()
	values := r.Header.Values(wire.HeaderForward)
	switch {
	case len(values) == 0:
	case len(values) > 1:
		return by, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "a request is forwarded for one caller"}
	case !op.forwardable:
		return by, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "this operation is not for front ends to forward"}
	default:
		if err := s.forwards(r, sess, by); err != nil {
			return by, err
		}
		forwarded, err := wire.DecodeForward(values[0])
		if err != nil {
			return by, err
		}
		by = forwarded
	}
	if volume != nil {
		by.Volume = volume.String()
	}
	by.Who = s.users.principal(by.UID, by.GID)
	by.Principal = by.Who.ARN
	by.From.UserAgent = r.UserAgent()
	return by, nil
}

// forwards is nil if the connection is a front end's; by is its peer.
func (s *server) forwards(r *http.Request, sess *session, by keymgr.Caller) error {
	by.Who = s.users.principal(by.UID, by.GID)
	by.Principal = by.Who.ARN
	ctx, cancel := awake.WithTimeout(r.Context(), s.bounds.call)
	defer cancel()
	return s.proveFrontEnd(ctx, sess, by)
}

// readBody reads a request's body, bounded. ErrSerialization for one that is too long or cut off, ErrDependencyTimeout for one that is too slow: it may be
// that this process did not run meanwhile, so the client is told that it may send it again.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > wire.MaxBody {
		return nil, &keymgr.Fault{Class: keymgr.ErrSerialization, Message: fmt.Sprintf("the request is longer than %d bytes", wire.MaxBody)}
	}
	var body []byte
	var err error
	if r.ContentLength >= 0 { // nothing of it is left in buffers that grew
		var n int
		body = make([]byte, r.ContentLength)
		n, err = io.ReadFull(r.Body, body)
		body = body[:n]
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxBody))
	}
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return body, &keymgr.Fault{Class: keymgr.ErrSerialization, Message: fmt.Sprintf("the request is longer than %d bytes", wire.MaxBody)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return body, &keymgr.Fault{Class: keymgr.ErrDependencyTimeout, Message: "the request did not come in time", Cause: err}
	case err != nil:
		return body, &keymgr.Fault{Class: keymgr.ErrSerialization, Message: "the request was cut off", Cause: err}
	}
	return body, nil
}
