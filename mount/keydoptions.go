package mount

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/server"
)

// KeydOptions are how a key daemon behaves. One that a mount starts by itself has none of them.
type KeydOptions struct {
	Listen        string // address and port for signed requests; "": none. Without TLS, of the loopback interface
	TLS           server.TLSFiles
	AWSLimits     bool          // AWS' limit of rotations on demand
	Metrics       string        // where figures are served: unix:PATH or a loopback address; "": nowhere
	AcceptRestore bool          // of a key store that is older than its token knows
	GrantDelay    time.Duration // how long a new grant is seen only by who presents its token
	ReplayMemory  int           // for signatures that must not come again, in MiB; 0: the default
}

// maxReplayMemory bounds KeydOptions.ReplayMemory, in MiB.
const maxReplayMemory = 64 << 10

// args are the options as `kmsfs keyd` takes them.
func (o KeydOptions) args() (args []string) {
	if o.Listen != "" {
		args = append(args, "--listen", o.Listen)
	}
	if o.TLS.Certificate != "" {
		args = append(args, "--tls-cert", o.TLS.Certificate)
	}
	if o.TLS.Key != "" {
		args = append(args, "--tls-key", o.TLS.Key)
	}
	if o.Metrics != "" {
		args = append(args, "--metrics", o.Metrics)
	}
	if o.AWSLimits {
		args = append(args, "--aws-limits")
	}
	if o.AcceptRestore {
		args = append(args, "--accept-restore")
	}
	if o.GrantDelay != 0 {
		args = append(args, "--grant-delay", o.GrantDelay.String())
	}
	if o.ReplayMemory != 0 {
		args = append(args, "--replay-memory", strconv.Itoa(o.ReplayMemory))
	}
	return args
}

// absolute makes paths independent of the directory of whoever was called.
func (o *KeydOptions) absolute() (err error) {
	if o.Metrics, err = metricsAddress(o.Metrics); err != nil {
		return err
	}
	for _, path := range []*string{&o.TLS.Certificate, &o.TLS.Key} {
		if *path == "" {
			continue
		}
		full, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("find %s: %w", *path, err)
		}
		*path = full
	}
	return nil
}

// check is a usage error for options that make no sense.
func (o KeydOptions) check() error {
	if o.GrantDelay < 0 {
		return fmt.Errorf("%w: --grant-delay is negative", ErrUsage)
	}
	if o.ReplayMemory < 0 || o.ReplayMemory > maxReplayMemory {
		return fmt.Errorf("%w: --replay-memory is not between 1 and %d MiB", ErrUsage, maxReplayMemory)
	}
	withTLS := o.TLS != (server.TLSFiles{})
	switch {
	case (o.TLS.Certificate == "") != (o.TLS.Key == ""):
		return fmt.Errorf("%w: --tls-cert and --tls-key belong together", ErrUsage)
	case withTLS && o.Listen == "":
		return fmt.Errorf("%w: --tls-cert is for what --listen names", ErrUsage)
	case o.Listen == "":
		return nil
	}
	if err := server.CheckListen(o.Listen, withTLS); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return nil
}

// findKeyStore makes the key store where there is none, and returns its secret then; nil where there is one.
func (cfg *KeydConfig) findKeyStore(ctx context.Context, dir string) (held heldSecret, err error) {
	held = heldSecret{source: &cfg.Secret, args: cfg.args()}
	if _, err = keystore.Load(dir); !errors.Is(err, keystore.ErrNone) {
		return held, err
	}
	made, err := makeKeyStore(ctx, dir, InitConfig{KeyStore: dir, Secret: cfg.Secret})
	held.buf = made.secret
	return held, err
}

// background starts the key daemon, or finds that it runs with these options.
func (cfg *KeydConfig) background(ctx context.Context, dir string, held *heldSecret) error {
	started, err := startKeydBy(ctx, dir, held)
	if err != nil || started || len(held.args) == 0 {
		return err
	}
	keys := dialKeys(dir)
	defer keys.Close()
	if st, err := keydStatus(ctx, keys); err == nil && st.Listen == cfg.Listen && st.TLS == (cfg.TLS != server.TLSFiles{}) && !cfg.AWSLimits && cfg.Metrics == "" && cfg.GrantDelay == 0 && cfg.ReplayMemory == 0 {
		return nil
	}
	return advise(fmt.Errorf("%w: a key daemon of %s runs already", ErrInUse, dir), "kmsfs keystore lock ends it")
}
