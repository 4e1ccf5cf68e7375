package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// ChangeSecret replaces the secret of a key store with an embedded token by another one of the same kind, while its daemon does not run. A new key file
// is made if it is not there.
func ChangeSecret(ctx context.Context, dir string, old, fresh SecretSource) error {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(old.absolute(), fresh.absolute()); err != nil {
		return err
	}
	cfg, err := loadKeyStore(dir)
	if err != nil {
		return err
	}
	if cfg.Token.Kind != hsm.KindSoft {
		return fmt.Errorf("%w: the PIN of a PKCS#11 token is changed by the token's own tools", ErrUsage)
	}
	if cfg.Unlock.Kind == keystore.KeyFile && fresh.KeyFile == "" {
		return fmt.Errorf("%w: this key store opens by a key file: name the new one by --new-key-file", ErrUsage)
	}
	if given, err := old.given(); err == nil && given == "" {
		old.KeyFile = cfg.Unlock.KeyFile
	}
	was, err := old.read(cfg.Unlock.Kind)
	if err != nil {
		return fmt.Errorf("the present secret: %w", err)
	}
	defer was.Close()
	if fresh.KeyFile != "" { // it stays whatever happens: it may be the one that opens
		if _, err := makeKeyFile(fresh.KeyFile); err != nil {
			return err
		}
	}
	is, err := fresh.readNew(cfg.Unlock.Kind)
	if err != nil {
		return fmt.Errorf("the new secret: %w", err)
	}
	defer is.Close()
	unlock := cfg.Unlock
	unlock.KeyFile = fresh.KeyFile
	err = keystore.ChangeSecret(ctx, dir, was, is, unlock, keyStoreOptions(slog.New(slog.DiscardHandler)))
	if errors.Is(err, keystore.ErrInUse) {
		err = advise(err, "end its daemon first: kmsfs keystore lock")
	}
	return err
}
