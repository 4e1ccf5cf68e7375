package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/fair"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/localhttp"
)

// bounds of time and number. A client that is slower than these is cut off.
type bounds struct {
	conns   int
	call    time.Duration // one operation
	unlock  time.Duration // Unlock: a passphrase is slow on purpose, a PKCS#11 module may be, a journal may have to be replayed
	header  time.Duration // from the first byte of a request to the end of its header
	read    time.Duration // … of its body
	write   time.Duration // from the end of the header to the end of the answer
	tcpIdle time.Duration // of a TCP connection between requests
	idle    time.Duration // of a connection between requests: long, because a connection says that its front end is there
	grace   time.Duration // for requests under way when keyd ends

	observe time.Duration // from one look at the clocks to the next

	again, againAtMost time.Duration // from one unattended try to unlock to the next; doubled each time
}

var defaultBounds = bounds{conns: 512, call: 10 * time.Second, unlock: 2 * time.Minute, header: 5 * time.Second, read: 10 * time.Second,
	write: 20 * time.Second, idle: 24 * time.Hour, tcpIdle: time.Minute, grace: 5 * time.Second, observe: time.Minute,
	again: time.Second, againAtMost: 15 * time.Second}

// askTimeout bounds what Status asks the token, and what keyd itself writes into the key-use log.
const askTimeout = 2 * time.Second

// server is a running keyd.
type server struct {
	cfg     RunConfig
	bounds  bounds
	conf    keystore.Config
	log     *slog.Logger
	started time.Time

	users       *users
	turns       *fair.Turns[string] // at the token, by principal
	lock        *keystore.Lock
	uses        *keystore.KeyUseLog
	socket      *socket
	tcp         *tcpListener                   // nil: none
	certificate *certificate                   // over tcp; nil: no TLS
	store       atomic.Pointer[keystore.Store] // nil: locked

	signatures *signatures
	ending     chan struct{} // closed when the server is told to end: nobody waits for changes any more

	unlocking chan struct{} // holds one token: who unlocks has taken it
	again     bool          // unlocking unattended has failed and may succeed later; unlockAgain's once it runs

	mu struct {
		sync.Mutex
		sessions map[*session]bool
	}
}

func newServer(cfg RunConfig, conf keystore.Config) *server {
	s := &server{cfg: cfg, bounds: defaultBounds, conf: conf, log: cfg.Log, started: time.Now(), unlocking: make(chan struct{}, 1), ending: make(chan struct{}), users: &users{owner: os.Geteuid()}, turns: fair.New[string](maxTokenCalls, maxPrincipalTokenCalls),
		signatures: newSignatures(time.Now, cfg.ReplayMemory)}
	if cfg.Now != nil {
		s.signatures = newSignatures(cfg.Now, cfg.ReplayMemory)
	}
	if cfg.bounds != nil {
		s.bounds = *cfg.bounds
	}
	s.mu.sessions = map[*session]bool{}
	return s
}

// serve answers requests until ctx ends, and takes the server down.
func (s *server) serve(ctx context.Context) error {
	h := s.localServer()
	if s.tcp != nil {
		signed := s.tcpServer()
		ended := make(chan struct{})
		var l net.Listener = s.tcp
		if s.certificate != nil {
			l = s.certificate.over(l)
		}
		go func() { defer close(ended); _ = signed.Serve(l) }()
		defer func() { _ = signed.Close(); <-ended }()
	}
	s.log.Info("keyd serves", "dir", s.cfg.Dir, "locked", s.store.Load() == nil)
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(s.socket) }()
	observing, stopObserving := context.WithCancel(ctx)
	observed := make(chan struct{})
	go func() {
		defer close(observed)
		var wg sync.WaitGroup
		wg.Go(func() { s.unlockAgain(observing) })
		s.observe(observing)
		wg.Wait()
	}()
	defer stopObserving()
	var err error
	select {
	case err = <-ended:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		close(s.ending)
		grace, cancel := context.WithTimeout(context.Background(), s.bounds.grace)
		defer cancel()
		if h.Shutdown(grace) != nil {
			_ = h.Close()
		}
		<-ended
	}
	stopObserving()
	<-observed
	s.log.Info("keyd ends", "dir", s.cfg.Dir)
	return errors.Join(err, s.close())
}

// maxHeader bounds the header of a request, in bytes.
const maxHeader = 32 << 10

// tcpServer answers requests that come over TCP.
func (s *server) tcpServer() *http.Server {
	return &http.Server{
		Handler: s, ReadHeaderTimeout: s.bounds.header, ReadTimeout: s.bounds.read, WriteTimeout: s.bounds.write, IdleTimeout: s.bounds.tcpIdle,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: s.connContext,
	}
}

// localServer answers requests that come over the socket.
func (s *server) localServer() *localhttp.Server {
	return &localhttp.Server{Handler: s, ConnContext: s.connContext,
		Bounds: localhttp.Bounds{Header: s.bounds.header, Read: s.bounds.read, Write: s.bounds.write, Idle: s.bounds.idle, Size: maxHeader}}
}

// observe looks at the clocks for the key manager until ctx ends: keys are deleted and rotated when their time has come.
func (s *server) observe(ctx context.Context) {
	tick := time.NewTicker(s.bounds.observe)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		store := s.store.Load()
		if store == nil {
			continue
		}
		if err := store.Manager.Observe(ctx, s.self()); err != nil && ctx.Err() == nil {
			s.log.Error("what was due could not be done", "error", err)
		}
	}
}

// session is what the server knows about a connection. Its volume is set once.
type session struct {
	peer      peer
	tcp       bool                                // whoever is at the other end has to sign
	volume    atomic.Pointer[blockcrypt.VolumeID] // nil: not registered
	challenge []byte                              // what a front end's proof answers
	claim     atomic.Pointer[claim]               // nil: it has claimed no right to forward
	proven    atomic.Bool                         // it may forward requests for its volume; set under server.mu
}

type sessionKey struct{}

// connContext gives each connection its session.
func (s *server) connContext(ctx context.Context, c net.Conn) context.Context {
	sess := &session{peer: peer{uid: -1, gid: -1}, challenge: make([]byte, keymgr.ChallengeSize)}
	_, _ = rand.Read(sess.challenge)
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	_, sess.tcp = c.(*tcpConn)
	if c, ok := c.(*conn); ok {
		sess.peer = c.peer
		release := c.release
		c.release = func() { s.forget(sess); release() }
	}
	if sess.tcp {
		return context.WithValue(ctx, sessionKey{}, sess) // no volume is ever registered on it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sessions[sess] = true
	return context.WithValue(ctx, sessionKey{}, sess)
}

func (s *server) forget(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.sessions, sess)
}

// manager returns the service, or ErrLocked.
func (s *server) manager() (*keymgr.Manager, error) {
	store := s.store.Load()
	if store == nil {
		return nil, &keymgr.Fault{Class: keymgr.ErrLocked, Message: "unlock it with: kmsfs keystore unlock --keystore " + s.cfg.Dir}
	}
	return store.Manager, nil
}

// unlock opens the key store with secret (nil: from where the configuration says), or checks secret if it is open. It is recorded before it counts. Errors:
// keymgr.ErrWrongSecret and hsm.ErrPIN at once, keymgr.ErrRecord, others as keystore.Open.
func (s *server) unlock(ctx context.Context, by keymgr.Caller, secret *locked.Buffer, acceptRestore bool, operation, detail string) error {
	select {
	case s.unlocking <- struct{}{}:
		defer func() { <-s.unlocking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var opened *keystore.Store
	var err error
	if open := s.store.Load(); open != nil {
		err = open.Verify(secret)
	} else {
		// Who asked may go away meanwhile; what has begun is finished.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.bounds.unlock)
		defer cancel()
		opts := s.cfg.Options
		opts.Self, opts.AcceptRestore = by, acceptRestore
		opened, err = keystore.Open(ctx, s.cfg.Dir, secret, opts)
	}
	if errors.Is(err, hsm.ErrPIN) {
		err = &keymgr.Fault{Class: keymgr.ErrWrongSecret, Cause: err}
	}
	if rerr := s.record(by, operation, detail, err); rerr != nil && err == nil {
		err = rerr
	}
	if keystore.Changed(err) {
		s.violation(by, err)
	}
	if err != nil {
		if opened != nil {
			err = errors.Join(err, opened.Close())
		}
		return err
	}
	if opened != nil {
		s.store.Store(opened)
		s.log.Info("the key store is unlocked", "dir", s.cfg.Dir)
	}
	return nil
}

// record writes what keyd itself decides into the key-use log.
func (s *server) record(by keymgr.Caller, operation, detail string, outcome error) error {
	if by.RequestID == "" {
		by.RequestID = audit.NewID()
	}
	u := keymgr.Use{Time: time.Now().UTC(), RequestID: by.RequestID, Operation: operation, Principal: by.Principal, UID: by.UID, GID: by.GID, PID: by.PID,
		Detail: detail, Decision: keymgr.Allow, Error: keymgr.Code(outcome)}
	if outcome != nil {
		u.Decision = keymgr.Deny
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := s.uses.Record(ctx, u); err != nil {
		return &keymgr.Fault{Class: keymgr.ErrRecord, Message: "nothing was done", Cause: err}
	}
	return nil
}

// status describes the server.
func (s *server) status(ctx context.Context) keymgr.Status {
	st := keymgr.Status{KeyStoreID: fmt.Sprintf("%x", s.conf.ID), Dir: s.cfg.Dir, Locked: true, Unlock: s.conf.Unlock.Kind, PID: os.Getpid(),
		Started: s.started, Token: keymgr.TokenStatus{Kind: s.conf.Token.Kind, Label: tokenLabel(s.conf.Token), Serial: s.conf.Token.Serial},
		KeyUseLog: filepath.Join(keystore.AuditDir(s.cfg.Dir, s.conf), trail.KeyStream)}
	if s.tcp != nil {
		st.Listen, st.TLS = s.tcp.Addr().String(), s.certificate != nil
	}
	if err := s.uses.Err(); err != nil {
		st.LogError = err.Error()
	}
	if store := s.store.Load(); store != nil {
		st.Locked = false
		st.Emergency, st.Approvers = authority(ctx, store)
		if last, err := store.Manager.LastBackup(ctx); err == nil {
			st.Backup = &last
		}
		st.Token = tokenStatus(ctx, store)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.mu.sessions {
		if v := sess.volume.Load(); v != nil && !slices.Contains(st.Volumes, v.String()) {
			st.Volumes = append(st.Volumes, v.String())
		}
	}
	slices.Sort(st.Volumes)
	return st
}

// authority says how approval and break-glass stand, as far as it can be found out.
func authority(ctx context.Context, store *keystore.Store) (e keymgr.Emergency, approvers int) {
	e, _ = store.Manager.Emergency(ctx)
	list, _ := store.Manager.Approvers(ctx)
	return e, len(list)
}

// tokenLabel names a token that does not answer.
func tokenLabel(t keystore.TokenConfig) string {
	if t.Kind == hsm.KindKMS {
		return t.Module
	}
	return t.Label
}

func tokenStatus(ctx context.Context, store *keystore.Store) keymgr.TokenStatus {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := store.Token.Info(ctx)
	if err != nil {
		t := store.Config.Token
		return keymgr.TokenStatus{Kind: t.Kind, Label: tokenLabel(t), Serial: t.Serial, HSM: t.Kind == hsm.KindPKCS11, Error: err.Error()}
	}
	return keymgr.TokenStatus{Kind: info.Kind, Label: info.Label, Model: info.Model, Serial: info.Serial, HSM: info.HSM, Imports: info.Imports}
}
