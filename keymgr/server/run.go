package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// ExitPanic is the exit code of a process that ended because a request panicked.
const ExitPanic = 70

// RunConfig says what to serve.
type RunConfig struct {
	Dir string // the key store; it exists

	// Secret unlocks the key store; it is only read. If it is nil, the key store unlocks itself where its configuration allows that (key file or systemd
	// credential), and otherwise, or if that fails, starts locked and waits for Unlock.
	Secret *locked.Buffer

	// Ready, if not nil, is called once: with nil when requests are answered, or with the reason why Run is about to return.
	Ready func(error)

	// Listen is an address and port for requests signed as AWS' are; "": none. Port 0: any that is free, see Status. Without TLS, of the loopback interface.
	Listen string
	TLS    TLSFiles

	// ReplayMemory is for the signatures that must not come again, in bytes; 0: DefaultReplayMemory. Where it is full, new requests are throttled.
	ReplayMemory int64

	keystore.Options // Log is the server's log, too

	// Observe is told of each operation that was asked for, how long it took, and its error. nil: nobody is.
	Observe func(op string, took time.Duration, err error)

	// Fatal is called when a request panicked, and must not return but in tests. nil: the process exits with ExitPanic.
	Fatal func()

	bounds *bounds // nil: defaultBounds; for tests
}

// Run is keyd: it takes the key store, unlocks it if it can, and answers requests until ctx ends or the process gets SIGTERM or SIGINT; then it finishes what is
// under way (bounded), closes the key store and returns nil. It does not end by being idle. Errors before it serves: keystore.ErrNone, ErrInUse (another keyd),
// ErrUnsafe, ErrDamaged; ErrListen, ErrCertificate; hsm.ErrPIN for a Secret that does not fit; the system's. The caller has hardened the process (locked.Harden).
func Run(ctx context.Context, cfg RunConfig) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ready := cfg.Ready
	if ready == nil {
		ready = func(error) {}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s, err := start(ctx, cfg)
	if err != nil {
		err = fmt.Errorf("start keyd: %w", err)
		ready(err)
		return err
	}
	ready(nil)
	return s.serve(ctx)
}

// start does everything up to answering: configuration, lock, log, socket, unlocking. The socket exists before the key store is open, so that clients wait instead of
// finding nobody.
func start(ctx context.Context, cfg RunConfig) (*server, error) {
	conf, err := keystore.Load(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := newServer(cfg, conf)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) open(ctx context.Context) (err error) {
	if s.lock, err = keystore.Acquire(s.cfg.Dir); err != nil {
		return err
	}
	if s.uses, err = keystore.OpenLog(s.cfg.Dir, s.conf, s.cfg.Options); err != nil {
		return err
	}
	s.cfg.KeyUseLog = s.uses
	if s.socket, err = listen(keystore.SocketPath(s.cfg.Dir), s.bounds.conns); err != nil {
		return err
	}
	if err = s.openTCP(); err != nil {
		return err
	}
	return s.firstUnlock(ctx)
}

// openTCP listens for signed requests, if it is to.
func (s *server) openTCP() (err error) {
	if s.cfg.Listen == "" {
		return nil
	}
	if s.cfg.TLS != (TLSFiles{}) {
		if s.certificate, err = loadCertificate(s.cfg.TLS, s.log); err != nil {
			return err
		}
	}
	s.tcp, err = listenTCP(s.cfg.Listen, s.certificate != nil, s.bounds.conns)
	return err
}

// firstUnlock unlocks at the start, if there is something to unlock with.
func (s *server) firstUnlock(ctx context.Context) error {
	switch {
	case s.cfg.Secret != nil:
		return s.unlock(ctx, s.self(), s.cfg.Secret, s.cfg.AcceptRestore, "Unlock", "at the start of keyd")
	case s.conf.Unlock.Unattended():
		if err := s.unlockUnattended(ctx); err != nil {
			s.log.Error("the key store stays locked", "error", err)
			s.again = passes(err)
		}
	default:
		s.log.Warn("the key store is locked", "dir", s.cfg.Dir, "unlock", s.conf.Unlock.Kind)
	}
	return nil
}

func (s *server) unlockUnattended(ctx context.Context) error {
	return s.unlock(ctx, s.self(), nil, s.cfg.AcceptRestore, "UnattendedUnlock", s.conf.Unlock.Kind)
}

// unlockAgain goes on with what firstUnlock could not do unattended, because there was no room or no token, until the key store is
// open or ctx ends.
func (s *server) unlockAgain(ctx context.Context) {
	for wait := s.bounds.again; s.again && s.store.Load() == nil; wait = min(2*wait, s.bounds.againAtMost) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if s.store.Load() != nil {
			return
		}
		if err := s.unlockUnattended(ctx); err != nil {
			s.log.Warn("the key store stays locked", "error", err)
			s.again = passes(err)
		}
	}
}

// passes says whether what unlocking failed for may be over later. A wrong secret is not tried again: tokens count.
func passes(err error) bool {
	for _, last := range []error{keymgr.ErrWrongSecret, keymgr.ErrRollback, keystore.ErrDamaged, keystore.ErrVersion, keystore.ErrUnsafe} {
		if errors.Is(err, last) {
			return false
		}
	}
	return true
}

// close takes down what start built, in the opposite order.
func (s *server) close() error {
	var errs []error
	if s.tcp != nil {
		_ = s.tcp.Close()
	}
	if s.socket != nil {
		errs = append(errs, s.socket.Close())
	}
	if s.uses != nil {
		errs = append(errs, s.uses.Close()) // before the key store: it is sealed once more
	}
	if store := s.store.Swap(nil); store != nil {
		errs = append(errs, store.Close())
	}
	s.lock.Release()
	return errors.Join(errs...)
}
