package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/server"
)

const (
	keydLogName  = "keyd.log"
	keydWait     = 10 * time.Second // for a key daemon that somebody else starts or ends
	keydPoll     = 50 * time.Millisecond
	keydPresence = 2 * time.Second // for an answer to "are you there"
)

func socketOf(keyStore string) string { return keystore.SocketPath(keyStore) }

func dialKeys(keyStore string) *client.Client {
	return client.New(socketOf(keyStore), client.Options{})
}

// ensureKeyd sees that a key daemon runs for the key store and is unlocked; the secret is asked for only if it is needed.
func ensureKeyd(ctx context.Context, keyStore string, secret *SecretSource) error {
	_, err := startKeyd(ctx, keyStore, secret)
	return err
}

// startKeyd is ensureKeyd, and says whether the daemon was started just now.
func startKeyd(ctx context.Context, keyStore string, secret *SecretSource) (started bool, err error) {
	held := heldSecret{source: secret}
	defer held.close()
	return startKeydBy(ctx, keyStore, &held)
}

// startKeydBy is startKeyd with a secret that may have been read already.
func startKeydBy(ctx context.Context, keyStore string, held *heldSecret) (started bool, err error) {
	cfg, err := loadKeyStore(keyStore)
	if err != nil {
		return false, err
	}
	keys := dialKeys(keyStore)
	defer keys.Close()
	held.kind, held.selfUnlocking = cfg.Unlock.Kind, cfg.Unlock.Unattended()
	limit, cancel := awake.WithTimeout(ctx, keydWait)
	defer cancel()
	for {
		st, err := keydStatus(ctx, keys)
		switch {
		case err == nil && !st.Locked && (started || !held.named()):
			return started, nil
		case err == nil: // a secret that was named is checked, whether it is needed or not
			return started, unlockKeyd(ctx, keys, held)
		case !errors.Is(err, keymgr.ErrKeyUnavailable):
			return false, fmt.Errorf("key daemon of %s: %w", keyStore, err)
		}
		if err = spawnKeyd(keyStore, held); err == nil {
			started = true
			continue // it answers, but may have found itself unable to unlock
		}
		if ClassOf(err) != ClassInUse {
			return false, err
		}
		if limit.Err() != nil && ctx.Err() == nil {
			return false, advise(fmt.Errorf("%w: the key daemon of %s runs, but does not answer", keymgr.ErrKeyUnavailable, keyStore), "try again; its log is %s", filepath.Join(keyStore, keydLogName))
		}
		select { // another one is starting, or ending
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(keydPoll):
		}
	}
}

// loadKeyStore reads what a key store is; where there is none it says what to do.
func loadKeyStore(dir string) (keystore.Config, error) {
	cfg, err := keystore.Load(dir)
	if errors.Is(err, keystore.ErrNone) {
		return cfg, noKeyStore(dir)
	}
	return cfg, err
}

// noKeyStoreFor is noKeyStore for what is about a volume: a directory that holds none is the first thing to say.
func noKeyStoreFor(volume, dir string) error {
	entries, err := os.ReadDir(volume)
	if err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return isSiteName(e.Name()) }) {
		return advise(fmt.Errorf("%w: %s", ErrNotVolume, volume), "name the directory that kmsfs init made, or a mount; kmsfs status lists the mounts")
	}
	return noKeyStore(dir)
}

func noKeyStore(dir string) error {
	return advise(fmt.Errorf("key store %s: %w", dir, keystore.ErrNone), "--keystore or $KMSFS_KEYSTORE names another one; kmsfs init makes one with the volume")
}

func keydStatus(ctx context.Context, keys *client.Client) (keymgr.Status, error) {
	ctx, cancel := awake.WithTimeout(ctx, keydPresence)
	defer cancel()
	return keys.Status(ctx)
}

// heldSecret reads a secret at most once: a descriptor and a person give it only once.
type heldSecret struct {
	source *SecretSource
	buf    *locked.Buffer // nil: not read yet

	kind          string // of the key store's secret
	selfUnlocking bool   // the key store can unlock itself

	args          []string // of the key daemon that is started with it
	acceptRestore bool     // of a key store that is older than its token knows
}

func (h *heldSecret) get() (_ *locked.Buffer, err error) {
	if h.buf == nil {
		h.buf, err = h.source.read(h.kind)
	}
	return h.buf, err
}

func (h *heldSecret) close() { h.buf.Close() }

// named says whether the user named a secret.
func (h *heldSecret) named() bool {
	given, err := h.source.given()
	return given != "" || err != nil
}

// unattended says whether the key store is to unlock itself, because it can and no other secret was named.
func (h *heldSecret) unattended() bool { return !h.named() && h.selfUnlocking }

func unlockKeyd(ctx context.Context, keys *client.Client, secret *heldSecret) error {
	buf, err := secret.get()
	if err != nil {
		return err
	}
	unlock := keys.Unlock
	if secret.acceptRestore {
		unlock = keys.UnlockOlder
	}
	if err := unlock(ctx, buf); err != nil {
		return fmt.Errorf("unlock key store: %w", err)
	}
	return nil
}

// spawnKeyd starts a key daemon; the secret goes over an inherited descriptor, none where the key store unlocks itself.
func spawnKeyd(keyStore string, secret *heldSecret) error {
	args := []string{"keyd", "--foreground", "--keystore", keyStore, "--ready-fd", fmt.Sprint(ReadyFD)}
	args = append(args, secret.args...)
	log := filepath.Join(keyStore, keydLogName)
	if secret.unattended() {
		return spawn(args, log, nil)
	}
	buf, err := secret.get()
	if err != nil {
		return err
	}
	return spawn(append(args, "--passphrase-fd", fmt.Sprint(InputFD)), log, buf.Bytes())
}

// stopKeyd ends the key daemon of a key store, cleanly, and waits until it is gone. It is no error if none runs; ErrInUse if volumes are mounted.
func stopKeyd(ctx context.Context, keyStore string) error {
	st, err := idleKeyd(ctx, keyStore)
	if errors.Is(err, keymgr.ErrKeyUnavailable) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Kill(st.PID, unix.SIGTERM); err != nil {
		return fmt.Errorf("end key daemon %d: %w", st.PID, err)
	}
	return awaitExit(ctx, st.PID)
}

// idleWait is how long a key daemon may take to notice that a front end has gone.
const idleWait = 2 * time.Second

// idleKeyd returns the status of a key daemon that no volume needs. ErrInUse if one does.
func idleKeyd(ctx context.Context, keyStore string) (keymgr.Status, error) {
	keys := dialKeys(keyStore)
	defer keys.Close()
	limit, cancel := awake.WithTimeout(ctx, idleWait)
	defer cancel()
	for {
		st, err := keydStatus(ctx, keys)
		if err != nil || len(st.Volumes) == 0 {
			return st, err
		}
		if limit.Err() != nil && ctx.Err() == nil {
			return st, advise(fmt.Errorf("%w: %d of the key store's volumes are mounted: %s", ErrInUse, len(st.Volumes), strings.Join(st.Volumes, ", ")), "kmsfs status shows where; kmsfs umount ends each")
		}
		select {
		case <-ctx.Done():
			return st, ctx.Err()
		case <-time.After(keydPoll):
		}
	}
}

// keydKeeper starts the key daemon again when it has died, where the secret can be had without anybody there.
type keydKeeper struct {
	keyStore string
	secret   SecretSource
	log      *slog.Logger
	missed   chan struct{} // capacity 1; somebody did not get an answer
}

// keepAfter is how long after it did not answer the key daemon is looked for; nothing but new keys waits for it.
const keepAfter = time.Second

// miss has the key daemon looked for.
func (k *keydKeeper) miss() {
	select {
	case k.missed <- struct{}{}:
	default:
	}
}

// run looks after the key daemon until ctx is done: when somebody did not get an answer, and then until it answers. It asks as the volume's front end, so that a new daemon soon knows who needs it.
func (k *keydKeeper) run(ctx context.Context, keys *client.Client) {
	for failures := 0; ; {
		if failures == 0 {
			select {
			case <-ctx.Done():
				return
			case <-k.missed:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(keepAfter * time.Duration(1+min(failures, 30))):
		}
		_, err := keydStatus(ctx, keys)
		if err == nil || ctx.Err() != nil || !errors.Is(err, keymgr.ErrKeyUnavailable) {
			failures = 0
			continue
		}
		if err := k.restart(ctx); err != nil {
			failures++
			k.log.Warn("key daemon is away", "error", err)
		} else {
			failures = 0
			k.log.Info("key daemon started again")
		}
	}
}

// restart starts the key daemon if its secret is a key file or credential. Anything else needs somebody: kmsfs keystore unlock.
func (k *keydKeeper) restart(ctx context.Context) error {
	cfg, err := keystore.Load(k.keyStore)
	if err != nil {
		return err
	}
	if !cfg.Unlock.Unattended() && k.secret.KeyFile == "" && k.secret.Credential == "" {
		return fmt.Errorf("%w: kmsfs keystore unlock starts it", keymgr.ErrLocked)
	}
	return ensureKeyd(ctx, k.keyStore, &k.secret)
}

// keepKeyd returns the keeper of a mount.
func keepKeyd(cfg daemonConfig, log *slog.Logger) *keydKeeper {
	return &keydKeeper{keyStore: cfg.KeyStore, secret: SecretSource{KeyFile: cfg.KeyFile, Credential: cfg.Credential}, log: log, missed: make(chan struct{}, 1)}
}

// KeydConfig is what `kmsfs keyd` was asked for.
type KeydConfig struct {
	KeyStore   string
	Secret     SecretSource
	Foreground bool
	ReadyFD    int    // told how the start went; 0: nobody
	Version    string // of this program
	KeydOptions
}

// Keyd runs the key daemon of a key store: in the background, or until ctx is done. Without a secret, a key store that cannot unlock itself starts
// locked in the foreground, and asks for it in the background. The key store is made where there is none.
func Keyd(ctx context.Context, cfg KeydConfig) error {
	ready := ReadyTo(cfg.ReadyFD)
	err := keyd(ctx, cfg, ready.Tell)
	if err != nil {
		ready.Tell(err)
	}
	return err
}

// shareProcessors leaves half of the processors to those who ask the key daemon: a call is so short that waking another thread for it costs more than
// it gains, and the clients wait on the same machine. GOMAXPROCS in the environment has precedence.
func shareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}

func keyd(ctx context.Context, cfg KeydConfig, ready func(error)) error {
	dir, err := keyStoreDir(cfg.KeyStore)
	if err != nil {
		return err
	}
	if err := cfg.Secret.absolute(); err != nil {
		return err
	}
	if err := errors.Join(cfg.check(), cfg.absolute()); err != nil {
		return err
	}
	held, err := cfg.findKeyStore(ctx, dir)
	defer held.close()
	if err != nil {
		return err
	}
	if !cfg.Foreground {
		return cfg.background(ctx, dir, &held)
	}
	path := ""
	if cfg.ReadyFD != 0 { // started by spawnKeyd
		path = filepath.Join(dir, keydLogName)
	}
	log := daemonLog(path)
	locked.Harden(log)
	shareProcessors()
	given, err := cfg.Secret.given()
	if err != nil {
		return err
	}
	run := server.RunConfig{Dir: dir, Ready: func(err error) { ready(adviseAudit(err)) }, Listen: cfg.Listen, TLS: cfg.TLS, Options: keyStoreOptions(log)}
	run.AcceptRestore, run.ReplayMemory = cfg.AcceptRestore, int64(cfg.ReplayMemory)<<20
	run.AWSLimits, run.GrantDelay, run.Secret = cfg.AWSLimits, cfg.GrantDelay, held.buf
	if given != "" && run.Secret == nil {
		conf, err := keystore.Load(dir)
		if err != nil {
			return err
		}
		if run.Secret, err = cfg.Secret.read(conf.Unlock.Kind); err != nil {
			return err
		}
		defer run.Secret.Close()
	}
	if cfg.Metrics != "" {
		figures, err := keydMetrics(dir, cfg.Metrics, cfg.Version, &run, log)
		if err != nil {
			return err
		}
		defer figures.Close()
	}
	return adviseAudit(server.Run(ctx, run))
}
