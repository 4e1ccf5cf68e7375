package mount

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// BackupKeyStore writes a backup of a key store to a new file, by its daemon, which is started if none runs.
func BackupKeyStore(ctx context.Context, dir string, secret SecretSource, file string) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("backup %s: %w", file, err)
	}
	if _, err := os.Lstat(path); err == nil {
		return advise(fmt.Errorf("backup: %w: %s", iofs.ErrExist, path), "name a new file")
	}
	keys, err := OpenKeys(ctx, dir, secret)
	if err != nil {
		return err
	}
	defer keys.Close()
	return keys.BackupKeyStore(ctx, path)
}

// RestoreKeyStore makes a key store in dir out of a backup, which opens by the secret that the key store had. A backup that is older than its PKCS#11 token knows, and volumes that have
// gone on since, are accepted with acceptRestore only; that is recorded.
func RestoreKeyStore(ctx context.Context, dir string, secret SecretSource, file string, acceptRestore bool) error {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return err
	}
	if err := secret.absolute(); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("%w: open backup: %w", ErrUsage, err)
	}
	defer f.Close()
	cfg := keystore.RestoreConfig{Dir: dir, Options: keyStoreOptions(slog.New(slog.DiscardHandler))}
	cfg.AcceptRestore = acceptRestore
	given, err := secret.given()
	if err != nil {
		return err
	}
	if given != "" {
		buf, err := secret.read(given)
		if err != nil {
			return err
		}
		defer buf.Close()
		cfg.Secret = buf
	}
	if given == unlockKeyFile { // it is where the key store finds it from now on
		cfg.Unlock = &keystore.UnlockConfig{Kind: keystore.KeyFile, KeyFile: secret.KeyFile}
	}
	err = keystore.Restore(ctx, cfg, f)
	if errors.Is(err, keystore.ErrNoSecret) {
		err = advise(err, "name it: --passphrase-file, --key-file or --pin-file")
	}
	return err
}
