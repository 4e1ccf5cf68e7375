package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

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

	keystore.Options // Log is the server's log, too

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
		if err := s.unlock(ctx, s.self(), nil, s.cfg.AcceptRestore, "UnattendedUnlock", s.conf.Unlock.Kind); err != nil {
			s.log.Error("the key store stays locked", "error", err)
		}
	default:
		s.log.Warn("the key store is locked", "dir", s.cfg.Dir, "unlock", s.conf.Unlock.Kind)
	}
	return nil
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
