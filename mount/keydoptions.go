package mount

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/server"
)

// KeydOptions are how a key daemon behaves. One that a mount starts by itself has none of them.
type KeydOptions struct {
	Listen     string        // loopback address and port for signed requests; "": none
	AWSLimits  bool          // AWS' limit of rotations on demand
	GrantDelay time.Duration // how long a new grant is seen only by who presents its token
}

// args are the options as `kmsfs keyd` takes them.
func (o KeydOptions) args() (args []string) {
	if o.Listen != "" {
		args = append(args, "--listen", o.Listen)
	}
	if o.AWSLimits {
		args = append(args, "--aws-limits")
	}
	if o.GrantDelay != 0 {
		args = append(args, "--grant-delay", o.GrantDelay.String())
	}
	return args
}

// check is a usage error for options that make no sense.
func (o KeydOptions) check() error {
	if o.GrantDelay < 0 {
		return fmt.Errorf("%w: --grant-delay is negative", ErrUsage)
	}
	if o.Listen == "" {
		return nil
	}
	if err := server.CheckListen(o.Listen); err != nil {
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
	if st, err := keydStatus(ctx, keys); err == nil && st.Listen == cfg.Listen && !cfg.AWSLimits && cfg.GrantDelay == 0 {
		return nil
	}
	return advise(fmt.Errorf("%w: a key daemon of %s runs already", ErrInUse, dir), "kmsfs keystore lock ends it")
}
