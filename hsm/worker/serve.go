package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/awake"
)

// maxInFlight bounds the requests a process works on, on both sides.
const maxInFlight = 64

// Serve is the worker's main loop: it opens the token that the first request
// asks for and answers requests until the connection closes, which is the normal
// end (nil) and closes the token. If open fails, the client is told and Serve
// returns the error.
func Serve(ctx context.Context, conn net.Conn, open func(context.Context, OpenConfig) (hsm.Token, error)) error {
	defer conn.Close()
	s := &server{in: frames{r: conn}, out: replies{conn: conn}, jobs: make(chan job, maxInFlight)}
	lanes, err := s.open(ctx, open)
	if err != nil {
		return err
	}
	defer s.token.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer close(s.jobs)
	for range max(defaultLanes, lanes) {
		go s.lane(ctx)
	}
	return s.read(ctx)
}

// defaultLanes is how many uses of keys are worked on at once, where the token takes more sessions as many as those.
const defaultLanes = 8

type server struct {
	token hsm.Token
	in    frames
	out   replies
	jobs  chan job // uses of keys; holds as many as there may be under way
}

// job is a request with its secret; places are given back when it is answered.
type job struct {
	req    *request
	secret []byte
	places *semaphore.Weighted
}

// read reads requests and has them worked on: uses of keys by the lanes, what may take long by goroutines of its own.
func (s *server) read(ctx context.Context) error {
	places := semaphore.NewWeighted(maxInFlight)
	for {
		req := new(request)
		secret, err := s.in.next(req)
		if errors.Is(err, io.EOF) && !errors.Is(err, errFrame) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if err := places.Acquire(ctx, 1); err != nil {
			return err
		}
		j := job{req, secret, places}
		if req.Op == opEncrypt || req.Op == opDecrypt {
			s.jobs <- j
			continue
		}
		go s.handle(ctx, j, false)
	}
}

// lane works on uses of keys, one after the other.
func (s *server) lane(ctx context.Context) {
	for j := range s.jobs {
		s.handle(ctx, j, true)
	}
}

// open handles the first request.
func (s *server) open(ctx context.Context, open func(context.Context, OpenConfig) (hsm.Token, error)) (sessions int, err error) {
	var req request
	secret, err := s.in.next(&req)
	defer clear(secret)
	if err != nil || req.Op != opOpen || req.Open == nil {
		return 0, fmt.Errorf("read the request to open a token: %w", errors.Join(errFrame, err))
	}
	cfg := OpenConfig{
		Module:      req.Open.Module,
		TokenLabel:  req.Open.TokenLabel,
		Serial:      req.Open.Serial,
		Initialize:  req.Open.Initialize,
		MaxSessions: req.Open.MaxSessions,
		CallTimeout: time.Duration(req.Open.CallTimeout) * time.Millisecond,
		OpenTimeout: time.Duration(req.Open.OpenTimeout) * time.Millisecond,
	}
	if len(secret) > 0 {
		if cfg.PIN, err = locked.FromBytes(secret); err != nil {
			return 0, s.out.send(&reply{ID: req.ID, Code: codeOther, Error: err.Error()}, nil)
		}
		defer cfg.PIN.Close()
	}
	rep := reply{ID: req.ID}
	if s.token, err = open(ctx, cfg); err != nil {
		rep.fail(err)
	}
	return cfg.MaxSessions, errors.Join(err, s.out.send(&rep, nil))
}

// handle answers one request and wipes its secrets. A reply that cannot be sent
// is dropped: the connection is then over, which Serve sees. A lane has others to answer.
func (s *server) handle(ctx context.Context, j job, lane bool) {
	req, secret := j.req, j.secret
	defer j.places.Release(1)
	defer clear(secret)
	began := time.Now()
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if req.Timeout > 0 {
		bounded, cancel = awake.WithTimeout(ctx, time.Duration(req.Timeout)*time.Millisecond)
	}
	defer cancel()
	rep := &reply{ID: req.ID}
	out, err := s.call(bounded, req, secret, rep)
	defer clear(out)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", hsm.ErrClosed, err)
	}
	if err != nil {
		*rep = reply{ID: req.ID}
		rep.fail(err)
	}
	if lane && len(s.jobs) > 0 && time.Since(began) < quickCall {
		s.out.hold(rep, out)
		return
	}
	_ = s.out.send(rep, out)
}

// call does what a request asks and fills in the reply; out is its secret.
func (s *server) call(ctx context.Context, req *request, secret []byte, rep *reply) (out []byte, err error) {
	switch req.Op {
	case opEncrypt:
		var sealed hsm.Sealed
		sealed, err = s.token.Encrypt(ctx, req.Key, secret, req.AAD)
		rep.Sealed = &sealed
	case opDecrypt:
		if req.Sealed == nil {
			return nil, fmt.Errorf("decrypt: %w", errFrame)
		}
		out, err = s.token.Decrypt(ctx, req.Key, *req.Sealed, req.AAD)
	case opGenerate:
		var info hsm.KeyInfo
		info, err = s.token.GenerateKey(ctx, req.Key, req.Label)
		rep.Key = &info
	case opFind:
		var info hsm.KeyInfo
		info, err = s.token.FindKey(ctx, req.Key)
		rep.Key = &info
	case opDestroy:
		err = s.token.DestroyKey(ctx, req.Key)
	case opInfo:
		var info hsm.Info
		info, err = s.token.Info(ctx)
		rep.Info = &info
	case opImport:
		err = s.callImport(ctx, req, secret, rep)
	case opNote, opPutNote:
		err = s.callNoter(ctx, req, rep)
	default:
		err = s.callSigner(ctx, req, rep)
	}
	return out, err
}

// callSigner does what a request asks of the token's signing keys.
func (s *server) callSigner(ctx context.Context, req *request, rep *reply) (err error) {
	signer, ok := s.token.(hsm.Signer)
	if !ok {
		return fmt.Errorf("unknown operation %.32q: %w", req.Op, errFrame)
	}
	var key hsm.SigningKey
	switch req.Op {
	case opGenerateSigning:
		key, err = signer.GenerateSigningKey(ctx, req.Key, req.Label)
		rep.Signing = &key
	case opFindSigning:
		key, err = signer.FindSigningKey(ctx, req.Key)
		rep.Signing = &key
	case opSign:
		rep.Signature, err = signer.Sign(ctx, req.Key, req.Message)
	case opDestroySigning:
		err = signer.DestroySigningKey(ctx, req.Key)
	default:
		err = fmt.Errorf("unknown operation %.32q: %w", req.Op, errFrame)
	}
	return err
}
